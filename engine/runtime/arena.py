"""The program arena: the tables of all programs in one buffer of a device."""

from __future__ import annotations

from collections import OrderedDict

from revstep.engine.devices.protocol import Device
from revstep.engine.errors import CapacityError
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.buckets import MAX_PROGRAM_ROWS
from revstep.kernels import columns as col
from revstep.kernels.layout import Array

IDLE_ROW = 0  # the identity row of slots without a program


class _Entry:
    __slots__ = ("base", "rows", "users")

    def __init__(self, base: int, rows: int) -> None:
        self.base, self.rows, self.users = base, rows, 0


class ProgramArena:
    """Programs on the device, cached by content and counted by use. One thread at a time.

    A program that nobody uses stays until its rows are needed; rows in use are never written.

    Args:
        device: Where the table is; it orders uploads after the steps that may still read the rows.
        rows: Capacity; row 0 is the idle slots' identity row.
        grows: Whether a larger table takes the place of a full one: no program is refused then.

    Attributes:
        table: float32 (rows, 32); another one once it has grown.
    """

    def __init__(
        self, device: Device, rows: int = MAX_PROGRAM_ROWS, *, grows: bool = False
    ) -> None:
        self._device = device
        self._grows = grows
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self.table = self._empty(rows)

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

    def reserve(self, rows: int) -> None:
        """Makes the capacity at least ``rows``; nobody is using a program."""
        if self.capacity < rows:
            self._entries.clear()
            self.table = self._empty(rows)

    def release(self, program: StepProgram) -> None:
        """Ends one use."""
        entry = self._entries[program.key]
        if entry.users < 1:
            raise AssertionError("a program was released more often than acquired")
        entry.users -= 1

    def _admit(self, program: StepProgram) -> _Entry:
        rows = len(program.table)
        base = self._gap(rows)
        unused = [key for key, entry in self._entries.items() if not entry.users]
        while base is None and unused:
            del self._entries[unused.pop(0)]
            base = self._gap(rows)
        if base is None and self._grows:
            base = self._grow(rows)
        if base is None:
            raise CapacityError(
                f"a program of {rows} rows finds no room among {self.capacity} rows, "
                f"{self.used} of them in use; try again when runs have ended, or load with a "
                f"larger max_program_rows"
            )
        self.table[base : base + rows] = self._device.upload(program.table)
        entry = self._entries[program.key] = _Entry(base, rows)
        return entry

    def _gap(self, rows: int) -> int | None:
        """The first free place of that many rows."""
        base = IDLE_ROW + 1
        for entry in sorted(self._entries.values(), key=lambda e: e.base):
            if entry.base - base >= rows:
                return base
            base = entry.base + entry.rows
        return base if self.capacity - base >= rows else None

    def _grow(self, rows: int) -> int:
        """Room for ``rows`` more, at the end; what is in use keeps its place."""
        old = self.table
        self.table = self._empty(2 * self.capacity + rows)
        self.table[: len(old)] = old
        return len(old)

    def _empty(self, rows: int) -> Array:
        table = self._device.zeros((rows, col.COLUMNS), "float32")
        table[IDLE_ROW] = self._device.upload(col.identity_row(0.0, 1.0))
        return table
