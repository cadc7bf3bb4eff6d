"""A process of one side: runs tasks when it is asked to (`python -m suites.cpu.worker CORE`).

Requests and replies are lines of JSON. It may run with an earlier build of revstep, so it imports
nothing of this one before a task does.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Callable
from time import perf_counter
from typing import Any

ENOUGH = 0.02  # seconds of an answer; the fastest of its runs counts


class Worker:
    """The tasks that are open, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}
        self._repeats: dict[str, int] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """A reply to one request.

        ``do`` is ``open`` (make the task ``name``, of a kind with options), ``save`` (write its
        result to a file), ``time``, or ``peak``: the most memory that the process had so far.
        """
        do = request["do"]
        if do == "peak":
            return {"bytes": peak_memory()}
        name = request["name"]
        if do == "open":
            self._tasks[name] = _maker(request["kind"])(**request["options"])
            return {"told": self._tasks[name].told}
        task = self._tasks[name]
        if do == "save":
            import numpy as np

            np.save(request["file"], task.call())
            return {}
        if name not in self._repeats:
            once = _took(task.seconds)
            if once < ENOUGH:  # the first one warms up
                once = max(_took(task.seconds), 1e-6)
            self._repeats[name] = math.ceil(ENOUGH / once)
        return {"seconds": min(task.seconds() for _ in range(self._repeats[name]))}


def _took(measure: Callable[[], object]) -> float:
    """Seconds of a measurement itself: what it gives may be a share of them."""
    begun = perf_counter()
    measure()
    return perf_counter() - begun


def peak_memory() -> int:
    """The most resident bytes of this process since it began."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = re.search(r"VmHWM:\s+(\d+) kB", file.read())
    assert found is not None
    return int(found[1]) * 1024


def _maker(kind: str) -> Callable[..., Any]:
    if kind == "peer":
        from suites.cpu.peers import peer

        return peer
    if kind == "form":
        from suites.cpu.forms import form

        return form
    from suites.cpu.tasks import TASKS

    return TASKS[kind]


def main() -> None:
    """Answer until stdin ends."""
    if sys.argv[1:]:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    reply, sys.stdout = sys.stdout, sys.stderr  # a library may print
    logging.disable(logging.WARNING)
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # of any kind: it is the row's reason
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(answer), file=reply, flush=True)


if __name__ == "__main__":
    main()
