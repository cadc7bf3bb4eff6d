"""Time grids: at which times the network is called.

A grid is named (``GRIDS``) or is an object with options, ``KarrasGrid(rho=5)``; both go wherever
``grid=`` does. A grid of your own is ``TimeGrid``.

===================  ============================================================================
name                 the N calls
===================  ============================================================================
``trailing``         training indices T - 1 and N even strides down
``leading``          training indices (N - 1) (T // N), ..., 0, plus the spec's offset
``linspace``         training indices evenly from T - 1 to 0
``karras``           noise levels linear in level^(1/7)
``exponential``      noise levels linear in the logarithm
``beta``             noise levels at the quantiles of Beta(0.6, 0.6)
``sgm_uniform``      ``linspace`` of N + 1 without its last
``logsnr_uniform``   ``exponential`` of N + 1 without its last
===================  ============================================================================
"""

from __future__ import annotations

from typing import Any

from revstep.engine.checks import check_one_of
from revstep.engine.spec.fields import fields_from
from revstep.engine.spec.grids.base import Grid
from revstep.engine.spec.grids.given import AYS_SD15, AYS_SDXL, AYS_SVD, TimeGrid
from revstep.engine.spec.grids.index_grids import (
    IndexGrid,
    LeadingGrid,
    LinspaceGrid,
    TrailingGrid,
)
from revstep.engine.spec.grids.names import GRIDS
from revstep.engine.spec.grids.names import resolve_grid as resolve_grid
from revstep.engine.spec.grids.noise_grids import (
    BetaGrid,
    ExponentialGrid,
    KarrasGrid,
    LogSNRGrid,
    LuGrid,
    NoiseGrid,
)
from revstep.engine.spec.grids.shifted import ShiftedGrid, flow_shift

__all__ = [
    "AYS_SD15",
    "AYS_SDXL",
    "AYS_SVD",
    "GRIDS",
    "BetaGrid",
    "ExponentialGrid",
    "Grid",
    "IndexGrid",
    "KarrasGrid",
    "LeadingGrid",
    "LinspaceGrid",
    "LogSNRGrid",
    "LuGrid",
    "NoiseGrid",
    "ShiftedGrid",
    "TimeGrid",
    "TrailingGrid",
    "flow_shift",
]

KINDS: dict[str, type[Grid]] = {
    cls.kind: cls
    for cls in (
        *(TrailingGrid, LeadingGrid, LinspaceGrid, KarrasGrid, ExponentialGrid, BetaGrid),
        *(LogSNRGrid, LuGrid, TimeGrid, ShiftedGrid),
    )
}


def grid_from_value(value: object) -> str | Grid:
    """The name, or the grid that ``Grid.to_dict`` wrote.

    Raises:
        ValueError: An unknown kind, an unknown or missing field, or a value out of range.
        TypeError: A value of another type.
    """
    if not isinstance(value, dict):
        return value if isinstance(value, str) else resolve_grid(value)  # type: ignore[arg-type]
    fields: dict[str, Any] = dict(value)
    kind = fields.pop("kind", None)
    check_one_of(kind, "kind of grid", KINDS)
    cls = KINDS[kind]
    fields = fields_from(cls, fields, f"the {kind} grid")
    for name in ("grid", "ends"):
        if isinstance(inner := fields.get(name), dict):
            fields[name] = grid_from_value(inner)
    return cls(**fields)
