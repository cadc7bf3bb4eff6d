"""Cold starts: processes of their own, from their start to the first sample."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from revstep.bench.measure.cell import Cell
from revstep.engine.errors import BackendError

PHASES = ("process_s", "import_s", "load_s", "first_s", "second_s", "total_s")
LIMIT_S = 600.0
BEGUN = "REVSTEP_BENCH_BEGUN"  # the parent's clock when it made the process

CHILD = """
import os, time
begun = float(os.environ["REVSTEP_BENCH_BEGUN"])
started = time.clock_gettime(time.CLOCK_MONOTONIC)
import revstep
from revstep.bench.measure import cold
imported = time.clock_gettime(time.CLOCK_MONOTONIC)
cold.child(begun, started, imported)
"""


def cold_starts(
    bundle: Path,
    cell: Cell,
    count: int,
    hook: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Starts a process ``count`` times that loads the bundle and draws the cell's samples.

    Args:
        bundle: Its directory.
        cell: What it runs.
        count: Processes, one after the other.
        hook: A shell command before each: what clears caches, say.
        progress: Called with (done, count).

    Returns:
        Medians of ``process_s`` (the interpreter), ``import_s``, ``load_s``, ``first_s`` (the
        first run) and ``total_s`` (all of these), ``second_s`` beside them; ``starts`` with every
        value, and the ``hook``.

    Raises:
        BackendError: A process or the hook failed.
    """
    starts = []
    for number in range(count):
        if hook is not None:
            _run_hook(hook)
        starts.append(_start(bundle, cell))
        if progress is not None:
            progress(number + 1, count)
    middle = {phase: median(s[phase] for s in starts) for phase in PHASES}
    return {**middle, "starts": starts, "hook": hook}


def _run_hook(hook: str) -> None:
    done = subprocess.run(hook, shell=True, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or "nothing"
        raise BackendError(
            f"the cold-start hook {hook!r} ended with {done.returncode} and says: {said}"
        )


def _start(bundle: Path, cell: Cell) -> dict[str, float]:
    asked = json.dumps({"bundle": str(bundle), "cell": cell.to_dict()})
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=asked, capture_output=True, text=True, check=False,
        timeout=LIMIT_S, env={**os.environ, BEGUN: repr(begun)},
    )  # fmt: skip
    if done.returncode != 0:
        lines: Sequence[str] = done.stderr.strip().splitlines() or ["nothing"]
        raise BackendError(f"a cold start of {bundle} failed; it says: {lines[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(begun: float, started: float, imported: float) -> None:
    """The process: loads, draws twice, and writes its times on stdout as JSON."""
    from revstep.bench.example import example_conditions
    from revstep.bench.measure.engines import open_engine, sample_cell

    asked = json.load(sys.stdin)
    cell = Cell(**asked["cell"])
    clock = time.clock_gettime
    before = clock(time.CLOCK_MONOTONIC)
    engine = open_engine(Path(asked["bundle"]), cell)
    loaded = clock(time.CLOCK_MONOTONIC)
    conditions = example_conditions(engine, cell.batch)
    times = [clock(time.CLOCK_MONOTONIC)]
    for seed in (0, 1):
        sample_cell(engine, cell, seed, conditions)
        times.append(clock(time.CLOCK_MONOTONIC))
    found = {
        "process_s": started - begun, "import_s": imported - started, "load_s": loaded - before,
        "first_s": times[1] - times[0], "second_s": times[2] - times[1],
    }  # fmt: skip
    first = sum(found[p] for p in ("process_s", "import_s", "load_s", "first_s"))
    sys.stdout.write(json.dumps({**found, "total_s": first}) + "\n")
