"""Programs kept for all engines of the process, under an equal spec and equal arguments.

An engine keeps what it ran; what it hasn't run yet is looked up here, so that a bundle loaded again
traces nothing anew. Only what is plain data all through is shared: a function or class of a user's
own may read what changes from engine to engine, and what it holds would be kept alive here.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from revstep.engine.program.table import StepProgram
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.frozen_array import FrozenArray
from revstep.engine.spec.sampler_choice import Options
from revstep.engine.system.forks import renew_in_children

SPECS_KEPT = 64
KEPT_PROGRAMS = 256
KEPT_BYTES = 32 << 20  # some 64 programs of 1000 rows, as many as one engine keeps
POINT_BYTES = 256  # a row's point, with its numbers
PLAIN = {type(None), bool, int, float, str, FrozenArray, Options}
OURS = __name__.partition(".")[0] + "."

Build = Callable[..., StepProgram]


class ProgramCache:
    """Programs by their key, the least recently used given up first. Thread-safe.

    Args:
        programs: How many are kept.
        size: Bytes of those that are kept; the newest is kept even if it is larger.
    """

    def __init__(self, programs: int = KEPT_PROGRAMS, size: int = KEPT_BYTES) -> None:
        self._programs = programs
        self._size = size
        self._kept: OrderedDict[Hashable, StepProgram] = OrderedDict()
        self._lock = threading.Lock()
        renew_in_children(self)

    def __len__(self) -> int:
        return len(self._kept)

    def after_fork(self) -> None:
        """Begins anew where another thread was at work here; it isn't in the child."""
        if self._lock.locked():
            self._lock, self._kept = threading.Lock(), OrderedDict()

    def get(self, key: Hashable, build: Callable[[], StepProgram]) -> StepProgram:
        """The program of that key; built where there is none, outside of the lock."""
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
        built = build()
        with self._lock:
            found = self._kept.setdefault(key, built)
            self._give_up()
        return found

    def clear(self) -> None:
        """Gives all up."""
        with self._lock:
            self._kept.clear()

    def _give_up(self) -> None:
        size = sum(map(_bytes, self._kept.values()))
        while len(self._kept) > 1 and (len(self._kept) > self._programs or size > self._size):
            size -= _bytes(self._kept.popitem(last=False)[1])


def _bytes(program: StepProgram) -> int:
    return program.rows.nbytes + program.table.nbytes + POINT_BYTES * len(program.points)


KEPT = ProgramCache()


def kept_program(build: Build, spec: DenoiserSpec, **arguments: Any) -> StepProgram:
    """What ``build(spec, **arguments)`` gives, or gave to an engine of an equal spec."""
    if not _plain((spec, *arguments.values())):
        return build(spec, **arguments)
    key = (build, _one(spec), *arguments.items())
    return KEPT.get(key, lambda: build(spec, **arguments))


@lru_cache(maxsize=SPECS_KEPT)
def _one(spec: DenoiserSpec) -> DenoiserSpec:
    """The first of equal specs, so that the programs' keys hold no others."""
    return spec


def _plain(value: object) -> bool:
    """Whether it holds nothing but numbers, names and what revstep itself makes of them."""
    if type(value) in PLAIN:
        return True
    if isinstance(value, tuple):
        return all(type(v) in PLAIN or _plain(v) for v in value)
    if not dataclasses.is_dataclass(value) or not type(value).__module__.startswith(OURS):
        return False
    return all(_plain(getattr(value, f.name)) for f in dataclasses.fields(value))
