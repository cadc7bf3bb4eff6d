"""Which of many loads a reader looks into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def loads_of(rows: Sequence[Row]) -> list[Row]:
    """The rows of loads of a service."""
    return [row for row in rows if row["bench"] == "serve" and row["part"] == "load"]


def looked_into(rows: Sequence[Row]) -> Row | None:
    """The load of the highest rate whose limit holds, else the last load; None: there is none.

    It is so whoever chose the rates, and for a search that was interrupted.
    """
    loads = loads_of(rows)
    holding = [row for row in loads if row["verdict"] == "holds"]
    if holding:
        return max(holding, key=lambda row: float(row["load"]["rate"]))
    return loads[-1] if loads else None


def in_slices(row: Row) -> list[Row]:
    """A load's slices; none of one that ended early, which has not a tenth of its time in each."""
    return [] if row["stopped"] == "missed" else list(row["slices"])
