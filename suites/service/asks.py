"""What is asked for: mixed requests, the same for every side."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from revstep.engine.spec.denoiser import DenoiserSpec

SAMPLERS = ("ddim", "unipc", "dpmpp_2m", "euler_ancestral")  # of one network call a step
FEWEST, MOST = 10, 50


@dataclasses.dataclass(frozen=True)
class Ask:
    """One request: a sample.

    Attributes:
        sampler: A name.
        steps: Network calls.
        seed: Of its noise.
        conditions: name -> value.
    """

    sampler: str
    steps: int
    seed: int
    conditions: dict[str, Any]

    def arguments(self) -> dict[str, Any]:
        """As ``engine.sample`` and ``Service.submit`` take them."""
        return {
            "sampler": self.sampler,
            "steps": self.steps,
            "seed": self.seed,
            "conditions": self.conditions or None,
        }


def mixed_asks(spec: DenoiserSpec, count: int, seed: int) -> list[Ask]:
    """Requests of 10 to 50 steps, uniform, of mixed samplers and conditions.

    Args:
        spec: Of the denoiser.
        count: How many.
        seed: Of all that is drawn.
    """
    draw = np.random.default_rng(seed)
    steps = draw.integers(FEWEST, MOST + 1, count).tolist()
    samplers = draw.integers(len(SAMPLERS), size=count).tolist()

    def conditions() -> dict[str, Any]:
        return {
            c.name: int(draw.integers(c.classes or 1))
            if c.dtype == "int64"
            else draw.standard_normal(c.shape).astype(np.float32)
            for c in spec.conditions
        }

    return [
        Ask(SAMPLERS[samplers[i]], steps[i], seed * 1_000_000 + i, conditions())
        for i in range(count)
    ]
