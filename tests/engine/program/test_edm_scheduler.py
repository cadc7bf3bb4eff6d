"""EDM's sampler of order 1 against diffusers' scheduler of that process, as it is shipped."""

import numpy as np
import pytest

from proofs.float64_rows import run_rows

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from revstep import DenoiserSpec, build_program  # noqa: E402
from revstep.engine.program.samplers import make_sampler  # noqa: E402

SHAPE = (3, 4, 4)


def network(x, sigma):
    """Some raw output F of a preconditioned network, fed c_in x."""
    return np.tanh(1.7 * x) + 0.3 * np.cos(x + np.log(sigma))


@pytest.mark.parametrize("steps", [2, 5, 18, 40])
def test_order_one_is_edm_euler_scheduler(steps):
    spec = DenoiserSpec.edm(SHAPE)
    program = build_program(spec, make_sampler("edm", order=1), steps, grid="karras", clip=False)
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(steps)
    start = np.random.default_rng(0).standard_normal((2, *SHAPE)) * program.start[1]

    points = iter(program.points)

    def ours(x, *_):
        return network(x, next(points).sigma)

    x, _ = run_rows(program, start, ours, lambda n: np.zeros((2, *SHAPE)))
    state = torch.from_numpy(start)
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        fed = scheduler.scale_model_input(state, t).numpy()
        out = torch.from_numpy(network(fed, float(sigma)))
        state = scheduler.step(out, t, state, return_dict=False)[0]
    np.testing.assert_allclose(x, state.numpy(), rtol=0, atol=2e-5)  # its tables are float32
