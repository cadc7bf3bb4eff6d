"""What does a fused step cost beside diffusers' and one in numpy? Clip, noise, fp32."""

from __future__ import annotations

import numpy as np
import pytest

from revstep.kernels import StepKernel, normal_fill
from revstep.kernels.noise import STREAM_STEP
from suites.questions.compare import Compare
from suites.questions.naive import ddim_step
from suites.step import measure as step
from suites.step.buffers import NEXT_TIMESTEP, TIMESTEP, ddim_row

pytest.importorskip("diffusers")


@pytest.mark.parametrize("eta", [1.0, 0.0], ids=["noise", "no-noise"])
@pytest.mark.parametrize(("rows", "elements"), step.SIZES)
def test_step(compare: Compare, rows: int, elements: int, eta: float) -> None:
    ddim = step.scheduler()
    alphas = ddim.alphas_cumprod.double().numpy()
    a, a_next = float(alphas[TIMESTEP]), float(alphas[NEXT_TIMESTEP])
    buf = step.buffers_for(ddim_row(alphas, eta), rows, elements)
    x, m = buf.x.copy(), buf.output.copy()
    error = max(
        step.check_against_diffusers(ddim, rows, elements), _apart_from_numpy(rows, elements, eta)
    )
    draw = np.random.default_rng(0)

    def in_numpy() -> object:
        z = draw.standard_normal(x.shape, np.float32) if eta else None
        return ddim_step(x, m, a, a_next, eta, z)

    kernel = StepKernel(buf)
    kernel.begin()
    others = {"numpy": in_numpy, "diffusers": step.diffusers_step(ddim, buf, eta)}
    noise = "noise" if eta else "no noise"
    compare(f"{rows} x {elements:,}, {noise}", kernel.step, others, apart=error)


def _apart_from_numpy(rows: int, elements: int, eta: float) -> float:
    """The largest difference of a step from numpy's of the same noise."""
    alphas = step.scheduler().alphas_cumprod.double().numpy()
    buf = step.buffers_for(ddim_row(alphas, eta), rows, elements)
    z = np.empty_like(buf.x)
    normal_fill(z, buf.seed, 0, STREAM_STEP)
    a, a_next = float(alphas[TIMESTEP]), float(alphas[NEXT_TIMESTEP])
    want = ddim_step(buf.x, buf.output, a, a_next, eta, z if eta else None)
    kernel = StepKernel(buf)
    kernel.begin()
    kernel.step()
    error = float(np.abs(buf.x - want).max())
    assert error < step.TOLERANCE
    return error
