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

import sys
from typing import TYPE_CHECKING, Any

from revstep.engine import later
from revstep.engine.checks import check_one_of
from revstep.engine.spec.fields import fields_from
from revstep.engine.spec.grids.base import Grid
from revstep.engine.spec.grids.names import resolve_grid as resolve_grid

if TYPE_CHECKING:  # the same names as FILES
    from revstep.engine.spec.grids.given import AYS_SD15 as AYS_SD15
    from revstep.engine.spec.grids.given import AYS_SDXL as AYS_SDXL
    from revstep.engine.spec.grids.given import AYS_SVD as AYS_SVD
    from revstep.engine.spec.grids.given import TimeGrid as TimeGrid
    from revstep.engine.spec.grids.index_grids import IndexGrid as IndexGrid
    from revstep.engine.spec.grids.index_grids import LeadingGrid as LeadingGrid
    from revstep.engine.spec.grids.index_grids import LinspaceGrid as LinspaceGrid
    from revstep.engine.spec.grids.index_grids import TrailingGrid as TrailingGrid
    from revstep.engine.spec.grids.named import GRIDS as GRIDS
    from revstep.engine.spec.grids.noise_grids import BetaGrid as BetaGrid
    from revstep.engine.spec.grids.noise_grids import ExponentialGrid as ExponentialGrid
    from revstep.engine.spec.grids.noise_grids import KarrasGrid as KarrasGrid
    from revstep.engine.spec.grids.noise_grids import LogSNRGrid as LogSNRGrid
    from revstep.engine.spec.grids.noise_grids import LuGrid as LuGrid
    from revstep.engine.spec.grids.noise_grids import NoiseGrid as NoiseGrid
    from revstep.engine.spec.grids.shifted import ShiftedGrid as ShiftedGrid
    from revstep.engine.spec.grids.shifted import flow_shift as flow_shift

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

FILES = {  # imported when first asked for
    "AYS_SD15": "given",
    "AYS_SDXL": "given",
    "AYS_SVD": "given",
    "BetaGrid": "noise_grids",
    "ExponentialGrid": "noise_grids",
    "flow_shift": "shifted",
    "GRIDS": "named",
    "IndexGrid": "index_grids",
    "KarrasGrid": "noise_grids",
    "LeadingGrid": "index_grids",
    "LinspaceGrid": "index_grids",
    "LogSNRGrid": "noise_grids",
    "LuGrid": "noise_grids",
    "NoiseGrid": "noise_grids",
    "ShiftedGrid": "shifted",
    "TimeGrid": "given",
    "TrailingGrid": "index_grids",
}

KINDS = {  # of JSON, and their classes
    "trailing": "TrailingGrid",
    "leading": "LeadingGrid",
    "linspace": "LinspaceGrid",
    "karras": "KarrasGrid",
    "exponential": "ExponentialGrid",
    "beta": "BetaGrid",
    "logsnr_uniform": "LogSNRGrid",
    "lu": "LuGrid",
    "given": "TimeGrid",
    "shifted": "ShiftedGrid",
}

if not TYPE_CHECKING:
    __getattr__ = later.names(__name__, FILES)


def grid_class(kind: str) -> type[Grid]:
    """The class of a kind of ``KINDS``."""
    cls: type[Grid] = getattr(sys.modules[__name__], KINDS[kind])
    return cls


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
    cls = grid_class(kind)
    fields = fields_from(cls, fields, f"the {kind} grid")
    for name in ("grid", "ends"):
        if isinstance(inner := fields.get(name), dict):
            fields[name] = grid_from_value(inner)
    return cls(**fields)
