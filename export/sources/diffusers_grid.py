"""A diffusers scheduler's time grid as a spec's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from revstep.engine.errors import ExportError
from revstep.engine.spec.grids import (
    BetaGrid,
    ExponentialGrid,
    Grid,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    LuGrid,
    ShiftedGrid,
    TrailingGrid,
)
from revstep.engine.spec.grids.shifted import flow_shift
from revstep.engine.spec.schedule import VPSchedule

NOISE_GRIDS: dict[str, type[KarrasGrid] | type[ExponentialGrid] | type[BetaGrid]] = {
    "use_karras_sigmas": KarrasGrid,
    "use_exponential_sigmas": ExponentialGrid,
    "use_beta_sigmas": BetaGrid,
    "use_lu_lambdas": LuGrid,
}
ENDS_OF_THE_INDICES = (
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)  # fmt: skip
INDEX_GRIDS: dict[str, type[LeadingGrid] | type[LinspaceGrid] | type[TrailingGrid]] = {
    "leading": LeadingGrid,
    "linspace": LinspaceGrid,
    "trailing": TrailingGrid,
}


def vp_grid(name: str, values: dict[str, Any], schedule: VPSchedule) -> str | Grid:
    """The grid of a VP scheduler's config.

    The ends of a noise grid are those of the table; in diffusers' Euler, Heun, LMS and KDPM2
    schedulers those of their spacing, which move with the number of steps.

    Raises:
        ExportError: An unknown spacing, or two kinds of noise grid.
    """
    spacing = str(values.get("timestep_spacing", "linspace"))  # singlestep has no other
    if spacing not in INDEX_GRIDS:
        raise ExportError(
            f"the scheduler has timestep_spacing={spacing!r}; allowed: {', '.join(INDEX_GRIDS)}"
        )
    chosen = _noise_grid(values)
    if chosen is None:
        first = _clipped_first(values, schedule)
        return spacing if first is None else INDEX_GRIDS[spacing](first=first)
    own = name in ENDS_OF_THE_INDICES and spacing != "linspace"
    return chosen(
        sigma_min=values.get("sigma_min"),
        sigma_max=values.get("sigma_max"),
        ends=INDEX_GRIDS[spacing]() if own else None,
    )


def _clipped_first(values: dict[str, Any], schedule: VPSchedule) -> float | None:
    """The noisiest index whose log(alpha / sigma) is not below ``lambda_min_clipped``."""
    least = float(values.get("lambda_min_clipped", -math.inf))
    abar = schedule.alphas_cumprod
    with np.errstate(divide="ignore"):
        lam = 0.5 * (np.log(abar) - np.log1p(-abar))
    kept = int(np.count_nonzero(lam >= least))
    if kept == 0:
        raise ExportError(
            f"the scheduler has lambda_min_clipped={least:g}, above log(alpha / sigma) of every "
            f"training index (at most {lam[0]:g})"
        )
    return None if kept == schedule.steps else kept - 1.0


def flow_grid(values: dict[str, Any], tokens: int | None = None) -> str | Grid:
    """The grid of a flow-matching scheduler's config.

    diffusers shifts the lower end of its linspace, and then all of it again; a shift that depends
    on the picture's size only once.

    Args:
        values: The config, over the defaults.
        tokens: Tokens of the picture, for such a shift.
    """
    terminal, total = values.get("shift_terminal"), values["num_train_timesteps"]
    if values.get("use_dynamic_shifting") and tokens is not None:
        shift, lowest = _dynamic_shift(values, tokens), 1.0 / total
    else:
        _refuse_dynamic(values, "shift")
        shift = float(values.get("shift", 1.0))
        lowest = _shifted(1.0 / total, shift)
    if (chosen := _noise_grid(values)) is not None:
        return chosen(sigma_min=terminal or _shifted(lowest, shift), sigma_max=1.0)
    if shift == 1.0 and not terminal:
        return "linspace"
    return ShiftedGrid(shift, LinspaceGrid(last=total * lowest - 1.0), terminal or None)


def flow_sigmas_grid(name: str, values: dict[str, Any]) -> Grid:
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
            f"{field} to revstep.grids.flow_shift(tokens, ...) in scheduler_config.json"
        )


def _dynamic_shift(values: dict[str, Any], tokens: int) -> float:
    return flow_shift(
        tokens,
        base_shift=values["base_shift"],
        max_shift=values["max_shift"],
        base_tokens=values["base_image_seq_len"],
        max_tokens=values["max_image_seq_len"],
        kind=values["time_shift_type"],
    )


def _shifted(t: float, shift: float) -> float:
    return shift * t / (1.0 + (shift - 1.0) * t)
