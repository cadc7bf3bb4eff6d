"""A diffusers scheduler's time grid as a spec's."""

from __future__ import annotations

import logging
from typing import Any

from revstep.engine.errors import ExportError
from revstep.engine.spacing import (
    BetaGrid,
    ExponentialGrid,
    KarrasGrid,
    LinspaceGrid,
    ShiftedGrid,
    Spacing,
)

__all__ = ["flow_grid", "flow_sigmas_grid", "vp_grid"]

NOISE_GRIDS: dict[str, type[KarrasGrid] | type[ExponentialGrid] | type[BetaGrid]] = {
    "use_karras_sigmas": KarrasGrid,
    "use_exponential_sigmas": ExponentialGrid,
    "use_beta_sigmas": BetaGrid,
    "use_lu_lambdas": ExponentialGrid,  # uniform in lambda, which is log-linear in sigma / alpha
}
ENDS_OF_THE_SPACING = (
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)  # fmt: skip

logger = logging.getLogger(__name__)


def vp_grid(name: str, values: dict[str, Any]) -> str | Spacing:
    """The grid of a VP scheduler's config.

    diffusers' own ends of a noise grid are those of the table, except in its Euler, Heun, LMS and
    KDPM2 schedulers with another spacing than linspace: theirs then move with the number of steps.
    """
    spacing = str(values.get("timestep_spacing", "leading"))
    chosen = _noise_grid(values)
    if chosen is None:
        return spacing
    if name in ENDS_OF_THE_SPACING and spacing != "linspace":
        logger.warning(
            "%s with timestep_spacing=%r begins its noise grid at the first time of that spacing; "
            "the bundle's begins at the training's noisiest time",
            name,
            spacing,
        )
    return chosen(sigma_min=values.get("sigma_min"), sigma_max=values.get("sigma_max"))


def flow_grid(values: dict[str, Any]) -> str | Spacing:
    """The grid of a flow-matching scheduler's config.

    diffusers shifts the lower end of its linspace, and then all of it again.
    """
    _refuse_dynamic(values, "shift")
    shift, terminal = float(values["shift"]), values.get("shift_terminal")
    total = values["num_train_timesteps"]
    lowest = _shifted(1.0 / total, shift)
    if (chosen := _noise_grid(values)) is not None:
        return chosen(sigma_min=terminal or _shifted(lowest, shift), sigma_max=1.0)
    if shift == 1.0 and not terminal:
        return "linspace"
    return ShiftedGrid(shift, LinspaceGrid(last=total * lowest - 1.0), terminal or None)


def flow_sigmas_grid(name: str, values: dict[str, Any]) -> Spacing:
    """The grid of a VP scheduler with ``use_flow_sigmas``."""
    _refuse_dynamic(values, "flow_shift")
    if _noise_grid(values) is not None:
        raise ExportError(
            "the scheduler has use_flow_sigmas with another kind of sigmas, which a bundle does "
            "not carry; keep one of them"
        )
    first, last = (None, None)
    if name != "UniPCMultistepScheduler":  # from 1 - 1/T down, where UniPC begins at 1
        first, last = values["num_train_timesteps"] - 2.0, -1.0
    base = LinspaceGrid(first=first, last=last, drop_last=True)
    return ShiftedGrid(float(values["flow_shift"]), base, values.get("shift_terminal") or None)


def _noise_grid(
    values: dict[str, Any],
) -> type[KarrasGrid] | type[ExponentialGrid] | type[BetaGrid] | None:
    asked = [name for name in NOISE_GRIDS if values.get(name)]
    if len(asked) > 1:
        raise ExportError(f"the scheduler has {' and '.join(asked)}; allowed: one of them")
    return NOISE_GRIDS[asked[0]] if asked else None


def _refuse_dynamic(values: dict[str, Any], field: str) -> None:
    if values.get("use_dynamic_shifting"):
        raise ExportError(
            "the scheduler has use_dynamic_shifting=True: its shift depends on the picture's size, "
            "and a bundle has one. Set use_dynamic_shifting to false and "
            f"{field} to revstep.flow_shift(tokens, ...) in scheduler_config.json"
        )


def _shifted(t: float, shift: float) -> float:
    return shift * t / (1.0 + (shift - 1.0) * t)
