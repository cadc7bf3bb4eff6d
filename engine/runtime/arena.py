"""The program arena: the tables of all programs in one device buffer that never moves."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from revstep.engine.devices.cuda import Queue
from revstep.engine.errors import CapacityError
from revstep.engine.program.table import StepProgram
from revstep.kernels import columns as col

__all__ = ["MAX_PROGRAM_ROWS", "ProgramArena"]

MAX_PROGRAM_ROWS = 65_536
IDLE_ROW = 0  # the identity row of slots without a program


@dataclasses.dataclass(slots=True)
class _Entry:
    base: int
    rows: int
    users: int


class ProgramArena:
    """Programs on the device, cached by content and counted by use. One thread at a time.

    A program that nobody uses stays until its rows are needed; rows in use are never written.

    Args:
        queue: Orders the uploads after the steps that may still read the rows.
        rows: Capacity; row 0 is the idle slots' identity row.

    Attributes:
        table: float32 (rows, 32), at one address for life.

    Raises:
        ValueError: Fewer than 2 rows.
    """

    def __init__(self, queue: Queue, rows: int = MAX_PROGRAM_ROWS) -> None:
        import torch

        if isinstance(rows, bool) or not isinstance(rows, int) or not 2 < rows < 1 << 31:
            raise ValueError(f"max_program_rows={rows!r} must be a whole number from 3 to 2^31 - 1")
        self._queue = queue
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self.table = torch.zeros((rows, col.COLUMNS), dtype=torch.float32, device=queue.device)
        self.table[IDLE_ROW : IDLE_ROW + 1].copy_(queue.upload(col.identity_row(0.0, 1.0)[None]))

    @property
    def capacity(self) -> int:
        """Rows in all, the idle row included."""
        return int(self.table.shape[0])

    @property
    def used(self) -> int:
        """Rows of programs in use."""
        return sum(entry.rows for entry in self._entries.values() if entry.users)

    @property
    def programs(self) -> int:
        """Programs that are held, in use or not."""
        return len(self._entries)

    def acquire(self, program: StepProgram) -> int:
        """The program's first row; it stays there until as many ``release`` have come.

        Raises:
            CapacityError: No room beside the programs in use.
        """
        entry = self._entries.get(program.key)
        if entry is None:
            entry = self._admit(program)
        entry.users += 1
        self._entries.move_to_end(program.key)
        return entry.base

    def release(self, program: StepProgram) -> None:
        """Ends one use."""
        entry = self._entries[program.key]
        if entry.users < 1:
            raise AssertionError("a program was released more often than acquired")
        entry.users -= 1

    @contextlib.contextmanager
    def lend(self, program: StepProgram) -> Iterator[int]:
        """``acquire`` and ``release`` around a ``with`` block."""
        base = self.acquire(program)
        try:
            yield base
        finally:
            self.release(program)

    def _admit(self, program: StepProgram) -> _Entry:
        rows = len(program.table)
        base = self._gap(rows)
        unused = [key for key, entry in self._entries.items() if not entry.users]
        while base is None and unused:
            del self._entries[unused.pop(0)]
            base = self._gap(rows)
        if base is None:
            raise CapacityError(
                f"a program of {rows} rows finds no room among {self.capacity} rows, "
                f"{self.used} of them in use; try again when runs have ended, or load with a "
                f"larger max_program_rows"
            )
        table = np.ascontiguousarray(program.table)
        self.table[base : base + rows].copy_(self._queue.upload(table), non_blocking=True)
        entry = self._entries[program.key] = _Entry(base, rows, 0)
        return entry

    def _gap(self, rows: int) -> int | None:
        """The first free place of that many rows."""
        base = IDLE_ROW + 1
        for entry in sorted(self._entries.values(), key=lambda e: e.base):
            if entry.base - base >= rows:
                return base
            base = entry.base + entry.rows
        return base if self.capacity - base >= rows else None
