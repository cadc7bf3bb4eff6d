"""Strength: how many steps of a grid run from a start that isn't noise alone."""

from __future__ import annotations

import math

__all__ = ["check_strength", "steps_run"]

ROUNDING = 1e-9  # 0.3 * 10 steps are three


def check_strength(strength: float) -> None:
    """Refuses a strength out of range.

    Raises:
        ValueError: Outside (0, 1].
    """
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength={strength} is out of range; it lies in (0, 1]")


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
    check_strength(strength)
    if compat is None:
        return max(1, math.ceil(strength * steps - ROUNDING))
    if kind == "flow":
        return steps - int(max(steps - steps * strength, 0.0))
    count = min(int(steps * strength), steps)
    if count == 0:
        raise ValueError(
            f"strength={strength:g} of {steps} step{'s' * (steps > 1)} is less than one, which "
            "diffusers' pipelines refuse, and so does compat='diffusers': use a strength of at "
            f"least {1.0 / steps:.3g} or more steps, or leave compat out to run one step"
        )
    return count
