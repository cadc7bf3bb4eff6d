"""The grids that have a name."""

from __future__ import annotations

from revstep.engine.nearest import unknown
from revstep.engine.spec.grids.base import Spacing
from revstep.engine.spec.grids.index_grids import LeadingGrid, LinspaceGrid, TrailingGrid
from revstep.engine.spec.grids.noise_grids import BetaGrid, ExponentialGrid, KarrasGrid, LogSNRGrid

__all__ = ["SPACINGS", "resolve_spacing"]

SPACINGS: dict[str, Spacing] = {
    "trailing": TrailingGrid(),
    "leading": LeadingGrid(),
    "linspace": LinspaceGrid(),
    "karras": KarrasGrid(),
    "exponential": ExponentialGrid(),
    "beta": BetaGrid(),
    "sgm_uniform": LinspaceGrid(drop_last=True),
    "logsnr_uniform": LogSNRGrid(),
}


def resolve_spacing(spacing: str | Spacing) -> Spacing:
    """The grid of that name, or the grid itself.

    Raises:
        ValueError: An unknown name.
        TypeError: Neither a name nor a grid.
    """
    if isinstance(spacing, str):
        if spacing not in SPACINGS:
            more = ", or a grid such as KarrasGrid(rho=7) or TimeGrid(sigmas=...)"
            raise ValueError(unknown("spacing", spacing, SPACINGS, more))
        return SPACINGS[spacing]
    if not isinstance(spacing, Spacing):
        raise TypeError(
            f"spacing must be a name ({', '.join(SPACINGS)}) or a grid such as KarrasGrid(rho=7); "
            f"got {spacing!r}"
        )
    return spacing
