"""How revstep's inputs become a file's, and its output revstep's: names, dtypes, shapes, rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import ExportError
from revstep.export.sources.onnx_file.ports import Dims, FilePort

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """One of revstep's inputs, (rows, *shape), and the file's input that it becomes.

    Attributes:
        ours: Its name in the bundle.
        name: Its name in the file.
        dtype: What the file takes.
        shape: revstep's shape, without rows.
        inner: The file's axes, without rows.
        rows: Whether the file's first axis is the rows; else it takes one row a call.
        order: The transposition of revstep's axes (rows, *shape) that comes first, or None.
        spread: The axes of length 1 that the file has in place of rows, of one number for all rows
            that is fed one of each row; None: it is fed what it takes.
        scale: The file is fed scale * value + shift, a whole number where it takes integers.
        shift: As above.
    """

    ours: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    inner: tuple[int, ...]
    rows: bool
    order: tuple[int, ...] | None = None
    scale: float = 1.0
    shift: float = 0.0
    spread: int | None = None

    def values(self, value: Array) -> Array:
        """What the file is fed for revstep's values (rows, *shape); one row where it takes one."""
        if self.order is not None:
            value = value.transpose(self.order)
        if (self.scale, self.shift) != (1.0, 0.0):
            value = np.float32(self.scale) * value + np.float32(self.shift)
        if "int" in self.dtype and value.dtype.kind == "f":
            value = np.floor(value + np.float32(0.5))
        lead = (len(value),) if self.rows else ()
        return np.ascontiguousarray(value.reshape((*lead, *self.inner)), self.dtype)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The file's output, and what becomes of it.

    Attributes:
        name: Its name in the file.
        shape: revstep's shape, without rows.
        rows: Whether the file's first axis is the rows.
        order: The transposition of the file's axes, rows included, that comes first, or None.
        scale: What it is multiplied by.
    """

    name: str
    shape: tuple[int, ...]
    rows: bool
    order: tuple[int, ...] | None = None
    scale: float = 1.0

    def values(self, out: Array) -> NDArray[np.float32]:
        """The output (rows, *shape) of the file's.

        Raises:
            ExportError: It has another shape.
        """
        found = out if self.rows else out[None]
        found = found if self.order is None else found.transpose(self.order)
        if found.shape[1:] != self.shape:
            axes = f" after {self.order}" if self.order is not None else ""
            raise ExportError(
                f"the file's output {self.name!r} is {out.shape}{axes}, and the spec says "
                f"{self.shape} a row: fix the spec's shape or learned_variance, or name another "
                "output"
            )
        return np.asarray(found, np.float32) * np.float32(self.scale)


@dataclasses.dataclass(frozen=True, slots=True)
class Wiring:
    """All of a file's inputs, and its output.

    Attributes:
        feeds: State, time, conditions, in revstep's order.
        constants: The file's inputs that always have one value, as it takes them.
        result: The output.
        batch: The rows of every call, where the file fixes them; None: any number.
        why_fixed: What fixes them.
        wanted: The rows to try to free the graph for, where the file fixes them; None: none.
        must: Whether the spec asks for those itself.
    """

    feeds: tuple[Feed, ...]
    constants: Mapping[str, Array]
    result: Result
    batch: int | None = None
    why_fixed: str = ""
    wanted: tuple[int, int] | None = None
    must: bool = False

    def wider(self) -> Wiring | None:
        """The wiring of any number of rows, one number for all spread over them; None: no such."""
        shared = [feed for feed in self.feeds if not feed.rows]
        if self.batch is None or not self.feeds[0].rows or any(feed.shape for feed in shared):
            return None
        feeds = tuple(
            feed
            if feed.rows
            else dataclasses.replace(feed, rows=True, inner=(), spread=len(feed.inner))
            for feed in self.feeds
        )
        return dataclasses.replace(self, feeds=feeds, batch=None, why_fixed="")


def agree(dims: Dims, shape: tuple[int, ...]) -> bool:
    """Whether axes, a free one of any length, are those of ``shape`` but for lengths of 1."""
    if len(dims) == len(shape):
        return all(isinstance(d, str) or d == n for d, n in zip(dims, shape, strict=True))
    return [d for d in dims if d != 1] == [n for n in shape if n != 1]


def own_axes(state: FilePort, time: FilePort | None) -> Dims:
    """The axes of a state's one sample: all but the first, or all where that can't be the rows.

    Several rows with one time for all are no batch that could be run.
    """
    dims = state.dims or ()
    several = bool(dims) and isinstance(dims[0], int) and dims[0] > 1
    shared = time is not None and time.dims in ((), (1,))
    return dims if several and shared else dims[1:]


def has_rows(dims: Dims, shape: tuple[int, ...]) -> bool | None:
    """Whether axes are (rows, *shape), or ``shape`` alone; None: neither."""
    free = bool(dims) and isinstance(dims[0], str)
    if (free or len(dims) > len(shape)) and agree(dims[1:], shape):
        return True
    return False if agree(dims, shape) else None


def sizes(dims: Dims | Iterable[int | str], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of axes; a free one is as long as the shape says, or 1."""
    dims = tuple(dims)
    own = shape if len(shape) == len(dims) else (1,) * len(dims)
    return tuple(n if isinstance(d, str) else d for d, n in zip(dims, own, strict=True))
