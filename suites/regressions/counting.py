"""What a call does in Python: functions called, and memory traced."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

WARM_UPS = 2


def calls_of(call: Callable[[], object]) -> int:
    """Functions that a call enters, C's among them, as ``sys.setprofile`` sees them."""
    count = 0

    def event(_frame: FrameType, kind: str, _argument: Any) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    _warm_up(call)
    before = sys.getprofile()
    sys.setprofile(event)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count - 1  # of setprofile itself


def peak_bytes(call: Callable[[], object]) -> int:
    """Bytes of Python and numpy that a call holds at once, at most, beside what was there."""
    _warm_up(call)
    tracemalloc.start()
    try:
        call()  # what tracing itself brings
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def _warm_up(call: Callable[[], object]) -> None:
    for _ in range(WARM_UPS):
        call()
