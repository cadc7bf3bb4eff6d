"""A robot policy whose answers are known exactly, so that it needs no training.

A plan is 16 velocities in a plane, 1 being 0.05 a tick. Given where the goal lies, an expert's
plans are normal: their mean closes 12 % of what is left at each tick, and they differ by a smooth
curve. Of a normal distribution the denoised estimate is a formula, and this network computes it:

    E[x0 | x_t] = mean + C alpha (alpha^2 C + sigma^2 I)^-1 (x_t - alpha mean)

    cd examples/service && revstep export policy:build -o /tmp/policy.revstep
"""

import torch

import revstep

HORIZON, SPEED = 16, 0.05
GAIN, SPREAD, SMOOTH = 0.12, 0.2, 4.0
SCHEDULE = revstep.schedules.VPSchedule(steps=100, betas="squaredcos_cap_v2")


class Planner(torch.nn.Module):
    """Noisy plans (B, 16, 2), training indices (B,), offsets to the goal (B, 2) -> plans."""

    def __init__(self) -> None:
        super().__init__()
        tick = torch.arange(HORIZON, dtype=torch.float64)
        curve = torch.exp(-(((tick[:, None] - tick) / SMOOTH) ** 2) / 2)  # correlation in time
        variances, basis = torch.linalg.eigh(SPREAD**2 * curve)
        alpha, sigma = map(torch.as_tensor, SCHEDULE.alpha_sigma(range(SCHEDULE.steps)))
        share = variances * alpha[:, None] / (variances * alpha[:, None] ** 2 + sigma[:, None] ** 2)
        self.register_buffer("approach", (GAIN / SPEED * (1 - GAIN) ** tick).float())
        self.register_buffer("basis", basis.float())
        self.register_buffer("alpha", alpha.float())
        self.register_buffer("share", share.float())  # (100, 16): of each component, kept

    def forward(self, x: torch.Tensor, t: torch.Tensor, observation: torch.Tensor) -> torch.Tensor:
        """The denoised plans (B, 16, 2)."""
        k = t.long()
        mean = self.approach[:, None] * observation[:, None]
        components = self.basis.T @ (x - self.alpha[k][:, None, None] * mean)
        return mean + self.basis @ (self.share[k][:, :, None] * components)


def build() -> tuple[torch.nn.Module, revstep.DenoiserSpec]:
    """The policy and its spec, for ``revstep export``."""
    spec = revstep.DenoiserSpec(
        shape=(HORIZON, 2),
        schedule=SCHEDULE,
        prediction="sample",
        conditions=(revstep.Condition(name="observation", shape=(2,)),),
        batch=(1, 16),
    )
    return Planner().eval(), spec
