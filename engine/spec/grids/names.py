"""The grids that have a name."""

from __future__ import annotations

from revstep.engine.checks import check_one_of, wrong_type
from revstep.engine.spec.grids.base import Grid
from revstep.engine.spec.grids.index_grids import LeadingGrid, LinspaceGrid, TrailingGrid
from revstep.engine.spec.grids.noise_grids import BetaGrid, ExponentialGrid, KarrasGrid, LogSNRGrid

GRIDS: dict[str, Grid] = {
    "trailing": TrailingGrid(),
    "leading": LeadingGrid(),
    "linspace": LinspaceGrid(),
    "karras": KarrasGrid(),
    "exponential": ExponentialGrid(),
    "beta": BetaGrid(),
    "sgm_uniform": LinspaceGrid(drop_last=True),
    "logsnr_uniform": LogSNRGrid(),
}


def resolve_grid(grid: str | Grid) -> Grid:
    """The grid of that name, or the grid itself.

    Raises:
        ValueError: An unknown name.
        TypeError: Neither a name nor a grid.
    """
    if isinstance(grid, str):
        more = ", or a grid such as KarrasGrid(rho=7) or TimeGrid(sigmas=...)"
        return GRIDS[check_one_of(grid, "grid", GRIDS, more)]
    if not isinstance(grid, Grid):
        raise wrong_type(
            grid, "grid", f"a name ({', '.join(GRIDS)}) or a grid such as KarrasGrid()"
        )
    return grid
