"""The step benchmark for pytest-benchmark: `pytest suites/step/bench_step.py --benchmark-json=F`.

Ours and diffusers' step, one group per size, one thread. Nothing here passes or fails by its time;
what is timed is checked first. `python -m suites.step.measure` measures in interleaved rounds and
writes the committed rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from revstep.kernels import StepKernel, native_isas, normal_fill
from revstep.kernels.noise import STREAM_STEP
from suites.step import measure as bench
from suites.step.buffers import ddim_row

pytest.importorskip("pytest_benchmark")
torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

sizes = pytest.mark.parametrize(
    ("rows", "elements"), bench.SIZES, ids=[f"{rows}x{elements}" for rows, elements in bench.SIZES]
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One torch thread, as the native step has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@sizes
@pytest.mark.parametrize("eta", [1.0, 0.0])
def test_revstep(benchmark: Any, rows: int, elements: int, eta: float) -> None:
    ddim = bench.scheduler()
    benchmark.extra_info["max_difference"] = bench.check_against_diffusers(ddim, rows, elements)
    benchmark.group = f"{rows}x{elements} eta={eta:g}"
    row = ddim_row(ddim.alphas_cumprod.double().numpy(), eta)
    buf = bench.buffers_for(row, rows, elements)
    kernel = StepKernel(buf)
    kernel.begin()
    benchmark(kernel.step)
    assert np.isfinite(buf.x).all()


@sizes
@pytest.mark.parametrize("eta", [1.0, 0.0])
def test_diffusers(benchmark: Any, rows: int, elements: int, eta: float) -> None:
    ddim = bench.scheduler()
    benchmark.group = f"{rows}x{elements} eta={eta:g}"
    row = ddim_row(ddim.alphas_cumprod.double().numpy(), eta)
    buf = bench.buffers_for(row, rows, elements)
    result: Any = benchmark(bench.diffusers_step(ddim, buf, eta))
    assert torch.isfinite(result.prev_sample).all()


@pytest.mark.parametrize("isa", native_isas() or (None,))
def test_noise(benchmark: Any, isa: str | None) -> None:
    out, want = np.empty((2, 64, 3072), np.float32)
    seed = np.arange(64, dtype=np.uint64)
    benchmark.group = "noise 64x3072"
    benchmark(normal_fill, out, seed, 7, STREAM_STEP, isa=isa)
    normal_fill(want, seed, 7, STREAM_STEP, backend="reference")
    np.testing.assert_array_equal(out.view(np.uint32), want.view(np.uint32))
