"""Encodings that are kept by the content of their inputs, row by row."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.system.forks import renew_in_children

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[dict[str, NDArray[Any]]], Sequence[NDArray[Any]]]


class KeptEncodings:
    """The rows that encoders gave last. Thread-safe.

    Args:
        limit: How many rows are kept; those used longest ago are given up.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._rows: OrderedDict[bytes, tuple[NDArray[Any], ...]] = OrderedDict()
        renew_in_children(self)

    def after_fork(self) -> None:
        """A lock that another thread held stays held in a forked child."""
        self._lock = threading.Lock()

    def rows(self, name: str, inputs: Arrays, run: Run) -> list[NDArray[Any]]:
        """An encoder's outputs, (rows, *shape) each; each content that isn't kept is run once.

        Args:
            name: The encoder's.
            inputs: (rows, *shape) each.
            run: Gives the outputs of some rows.
        """
        count = len(next(iter(inputs.values())))
        keys = [_content(name, {n: v[row] for n, v in inputs.items()}) for row in range(count)]
        with self._lock:
            found = {key: self._rows[key] for key in keys if key in self._rows}
            for key in found:
                self._rows.move_to_end(key)
        new = {key: row for row, key in reversed(list(enumerate(keys))) if key not in found}
        if wanted := sorted(new.values()):
            made = run({n: v[wanted] for n, v in inputs.items()})
            for place, row in enumerate(wanted):
                found[keys[row]] = tuple(v[place].copy() for v in made)
            self._keep({keys[row]: found[keys[row]] for row in wanted})
        return [np.stack(values) for values in zip(*(found[key] for key in keys), strict=True)]

    def _keep(self, rows: Mapping[bytes, tuple[NDArray[Any], ...]]) -> None:
        with self._lock:
            self._rows.update(rows)
            while len(self._rows) > self._limit:
                self._rows.popitem(last=False)


def _content(name: str, row: Arrays) -> bytes:
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    for key in sorted(row):
        digest.update(np.ascontiguousarray(row[key]).tobytes())
    return digest.digest()
