"""What the workers of callgrind share: tasks made so many times, each with a mark around it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping

MARK = "getpriority"  # of the C library; nothing else that runs here calls it
WARM_UPS = 3


def make(tasks: Mapping[str, Callable[[], object]]) -> None:
    """Makes each task as often as the arguments ``TASK=COUNT`` ask for, between two marks."""
    counts = {name: int(count) for name, _, count in (a.rpartition("=") for a in sys.argv[1:])}
    for name in counts:  # first, what is made once, and Python's specialised instructions
        for _ in range(WARM_UPS):
            tasks[name]()
    gc.collect()
    gc.freeze()
    gc.disable()  # its turns would depend on all that was allocated before
    for name, count in counts.items():
        task = tasks[name]
        _mark()
        for _ in range(count):
            task()
        _mark()


def _mark() -> None:
    os.getpriority(os.PRIO_PROCESS, 0)
