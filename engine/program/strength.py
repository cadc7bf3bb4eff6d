"""Strength: how many steps of a grid run from a start that isn't noise alone."""

from __future__ import annotations

import math

from revstep.engine.checks import check_number
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message

__all__ = ["steps_run"]

ROUNDING = 1e-9  # 0.3 * 10 steps are three


def steps_run(steps: int, strength: float, compat: str | None = None, kind: str = "vp") -> int:
    """How many of ``steps`` steps run: ceil(strength * steps) (Meng et al. 2022).

    With compat, what the pipelines of diffusers 0.42.1 run: those of Stable Diffusion
    int(strength * steps), and none of them none; those of flow models (SD3, Flux)
    steps - int(steps - strength * steps), which is ceil but for its rounding.

    Args:
        steps: Steps of the whole grid.
        strength: In (0, 1].
        compat: ``diffusers``, or None.
        kind: The schedule's kind.

    Raises:
        ValueError: A strength out of range, or one that leaves no step.
    """
    check_number(strength, "strength", 0.0, 1.0, above=True)
    if compat is None:
        return max(1, math.ceil(strength * steps - ROUNDING))
    if kind == "flow":
        return steps - int(max(steps - steps * strength, 0.0))
    count = min(int(steps * strength), steps)
    if count == 0:
        raise ArgumentError(
            Message(
                Argument("strength", strength),
                f" of {steps} step{'s' * (steps > 1)} is less than one, which diffusers' pipelines "
                "refuse, and so does ",
                Argument("compat", "diffusers"),
                f": use a strength of at least {1.0 / steps:.3g} or more steps, or leave compat "
                "out to run one step",
            ),
            "strength",
        )
    return count
