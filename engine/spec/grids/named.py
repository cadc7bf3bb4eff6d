"""The grids that have a name."""

from __future__ import annotations

from revstep.engine.spec.grids.base import Grid
from revstep.engine.spec.grids.index_grids import OVER_INDICES, LinspaceGrid
from revstep.engine.spec.grids.noise_grids import BetaGrid, ExponentialGrid, KarrasGrid, LogSNRGrid

GRIDS: dict[str, Grid] = {
    **OVER_INDICES,
    "karras": KarrasGrid(),
    "exponential": ExponentialGrid(),
    "beta": BetaGrid(),
    "sgm_uniform": LinspaceGrid(drop_last=True),
    "logsnr_uniform": LogSNRGrid(),
}
