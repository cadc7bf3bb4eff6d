"""Time grids: at which times the network is called.

A grid is named (``SPACINGS``) or is an object with options, ``KarrasGrid(rho=5)``; both go wherever
``spacing`` does. A grid of your own is ``TimeGrid``.

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
from revstep.engine.spec.grids.base import Spacing
from revstep.engine.spec.grids.given import AYS_SD15, AYS_SDXL, AYS_SVD, TimeGrid
from revstep.engine.spec.grids.index_grids import (
    IndexGrid,
    LeadingGrid,
    LinspaceGrid,
    TrailingGrid,
)
from revstep.engine.spec.grids.names import SPACINGS
from revstep.engine.spec.grids.names import resolve_spacing as resolve_spacing
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
    "SPACINGS",
    "BetaGrid",
    "ExponentialGrid",
    "IndexGrid",
    "KarrasGrid",
    "LeadingGrid",
    "LinspaceGrid",
    "LogSNRGrid",
    "LuGrid",
    "NoiseGrid",
    "ShiftedGrid",
    "Spacing",
    "TimeGrid",
    "TrailingGrid",
    "flow_shift",
]

KINDS: dict[str, type[Spacing]] = {
    cls.kind: cls
    for cls in (
        *(TrailingGrid, LeadingGrid, LinspaceGrid, KarrasGrid, ExponentialGrid, BetaGrid),
        *(LogSNRGrid, LuGrid, TimeGrid, ShiftedGrid),
    )
}


def spacing_from_value(value: object) -> str | Spacing:
    """The name, or the grid that ``Spacing.to_dict`` wrote.

    Raises:
        ValueError: An unknown kind, an unknown or missing field, or a value out of range.
        TypeError: A value of another type.
    """
    if not isinstance(value, dict):
        return value if isinstance(value, str) else resolve_spacing(value)  # type: ignore[arg-type]
    fields: dict[str, Any] = dict(value)
    kind = fields.pop("kind", None)
    check_one_of(kind, "kind of grid", KINDS)
    cls = KINDS[kind]
    fields = fields_from(cls, fields, f"the {kind} grid")
    for name in ("spacing", "ends"):
        if isinstance(inner := fields.get(name), dict):
            fields[name] = spacing_from_value(inner)
    return cls(**fields)
