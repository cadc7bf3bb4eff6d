"""Programs kept for later runs: of the samplers that revstep has, by all engines of an equal spec.

What is traced once serves every engine of a process whose spec is equal, as of several loads of a
bundle; so a warning of a program comes once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from revstep.engine.program.table import StepProgram
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.forks import renew_in_children

SPECS_KEPT = 64
KEPT_BYTES = 64 << 20
POINT_BYTES = 256  # a row's point, with its numbers

Build = Callable[..., StepProgram]


class ProgramCache:
    """Programs by their key, the least recently used given up first. Thread-safe.

    Args:
        limit: Bytes of the programs that are kept.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, StepProgram] = OrderedDict()
        self._bytes = 0
        self.after_fork()
        renew_in_children(self)

    def __len__(self) -> int:
        return len(self._kept)

    def after_fork(self) -> None:
        """A lock of the child's own."""
        self._lock = threading.Lock()

    def get(self, key: Hashable, build: Callable[[], StepProgram]) -> StepProgram:
        """The program of that key; built where there is none, outside of the lock."""
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
        built = build()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = built
                self._bytes += _bytes(built)
            found = self._kept[key]
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return found

    def clear(self) -> None:
        """Gives all up."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


def _bytes(program: StepProgram) -> int:
    return program.rows.nbytes + program.table.nbytes + POINT_BYTES * len(program.points)


KEPT = ProgramCache()


class SpecPrograms:
    """The programs of one spec.

    Args:
        spec: The spec.
    """

    def __init__(self, spec: DenoiserSpec) -> None:
        self._spec = spec

    def get(self, build: Build, **arguments: Any) -> StepProgram:
        """What ``build(spec, **arguments)`` gives, or gave; the arguments must be hashable."""
        key = (self, build, *arguments.items())
        return KEPT.get(key, lambda: build(self._spec, **arguments))


@lru_cache(maxsize=SPECS_KEPT)
def programs_of(spec: DenoiserSpec) -> SpecPrograms:
    """One object for all equal specs: a spec is hashed once an engine, not every run."""
    return SpecPrograms(spec)
