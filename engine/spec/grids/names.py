"""The grids that have a name."""

from __future__ import annotations

from revstep.engine.checks import check_one_of, wrong_type
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
        more = ", or a grid such as KarrasGrid(rho=7) or TimeGrid(sigmas=...)"
        return SPACINGS[check_one_of(spacing, "spacing", SPACINGS, more)]
    if not isinstance(spacing, Spacing):
        raise wrong_type(
            spacing, "spacing", f"a name ({', '.join(SPACINGS)}) or a grid such as KarrasGrid()"
        )
    return spacing
