"""The grid of a name."""

from __future__ import annotations

from revstep.engine.checks import check_one_of, wrong_type
from revstep.engine.spec.grids.base import Grid
from revstep.engine.spec.grids.index_grids import OVER_INDICES


def resolve_grid(grid: str | Grid) -> Grid:
    """The grid of that name, or the grid itself.

    Raises:
        ValueError: An unknown name.
        TypeError: Neither a name nor a grid.
    """
    if isinstance(grid, Grid):
        return grid
    if isinstance(grid, str) and (found := OVER_INDICES.get(grid)) is not None:
        return found
    from revstep.engine.spec.grids.named import GRIDS  # and the files of all of them

    if isinstance(grid, str):
        more = ", or a grid such as KarrasGrid(rho=7) or TimeGrid(sigmas=...)"
        return GRIDS[check_one_of(grid, "grid", GRIDS, more)]
    raise wrong_type(grid, "grid", f"a name ({', '.join(GRIDS)}) or a grid such as KarrasGrid()")
