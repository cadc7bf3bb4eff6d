"""A kind of two times, beside diffusers' scheduler of flow maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suites.checkpoints.kind import Compared, Kind, Made
from suites.checkpoints.modules import made_of

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

STEPS, WIDTH = 4, 24


def two_time_kinds() -> list[Kind]:
    """A network of average velocities, fed 1000 t and 1000 r."""
    peer = "diffusers' FlowMapEulerDiscreteScheduler around the module"
    return [Kind("flow map of two times, average velocity", "factory", peer, _make, ("diffusers",))]


def _make(_: Path) -> Made:
    import torch

    from revstep.engine.spec.denoiser import DenoiserSpec, TimeInput
    from revstep.engine.spec.schedule import FlowSchedule
    from revstep.engine.spec.second_time import SecondTime
    from revstep.export import Checkpoint

    class Velocity(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(6 + 4, WIDTH)
            self.last = torch.nn.Linear(WIDTH, 6)

        def forward(self, x: torch.Tensor, t: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
            times = torch.stack([t, r], 1) * 3e-3
            fed = torch.cat([x, times.sin(), times.cos()], 1)
            out: torch.Tensor = self.last(torch.nn.functional.silu(self.first(fed)))
            return out

    torch.manual_seed(4)
    module = Velocity().eval()
    spec = DenoiserSpec(
        shape=(6,),
        schedule=FlowSchedule(),
        prediction="average_velocity",
        time=TimeInput(kind="thousand", fractions=True),
        second_time=SecondTime(kind="thousand", fractions=True),
    )

    def whole(engine: Engine) -> Compared:
        import diffusers

        cls: Any = diffusers.FlowMapEulerDiscreteScheduler
        scheduler = cls(1000, 1.0)
        scheduler.set_timesteps(STEPS)
        noise = np.random.default_rng(2).standard_normal((3, 6)).astype(np.float32)
        x = torch.from_numpy(noise)
        ends = [*scheduler.timesteps[1:], torch.zeros(())]
        with torch.no_grad():
            for t, r in zip(scheduler.timesteps, ends, strict=True):
                m = module(x, t.float().expand(3), r.float().expand(3))
                x = scheduler.step(m, t, x, r).prev_sample.float()
        own = engine.sample(3, noise=noise, sampler="flow_map", steps=STEPS)
        return own.x, x.numpy()

    return Made(made_of(Checkpoint(module=module, spec=spec)).export, whole)
