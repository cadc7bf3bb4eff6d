"""Cold starts: processes of their own, from their start to the first sample."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from revstep.bench.measure.cell import Cell
from revstep.engine.errors import BackendError

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

PHASES = ("process_s", "import_s", "load_s", "first_s", "second_s", "total_s")
LIMIT_S = 600.0

CHILD = """
import time
started = time.monotonic()
import json, sys
asked = json.load(sys.stdin)
import revstep
imported = time.monotonic()
engine = revstep.load(asked["bundle"], **asked["load"])
loaded = time.monotonic()
from revstep.bench.measure import cold
cold.child(engine, asked["cell"], (started, imported, loaded))
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
        BackendError: A process or the hook failed, or a process took longer than ``LIMIT_S``.
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
    asked = {"bundle": str(bundle), "load": cell.load_arguments, "cell": cell.to_dict()}
    begun = time.monotonic()  # of the machine: the child's clock too
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD], input=json.dumps(asked), capture_output=True, text=True,
            check=False, timeout=LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BackendError(
            f"a cold start of {bundle} took longer than {LIMIT_S:g} s; leave cold starts out with "
            "--cold 0"
        ) from None
    if done.returncode != 0:
        lines: Sequence[str] = done.stderr.strip().splitlines() or ["nothing"]
        raise BackendError(f"a cold start of {bundle} failed; it says: {lines[-1]}")
    started, imported, loaded, first, second = json.loads(done.stdout.splitlines()[-1])
    found = {
        "process_s": started - begun, "import_s": imported - started, "load_s": loaded - imported,
        "first_s": first, "second_s": second,
    }  # fmt: skip
    return {**found, "total_s": sum(found[p] for p in PHASES[:4])}


def child(engine: Engine, asked: dict[str, Any], clocks: tuple[float, ...]) -> None:
    """The process: draws twice, and writes its clocks and the draws' seconds on stdout as JSON."""
    from revstep.bench.example import example_conditions
    from revstep.bench.measure.engines import sample_cell

    cell = Cell(**asked)
    conditions = example_conditions(engine, cell.batch)
    times = [time.monotonic()]
    for seed in (0, 1):
        sample_cell(engine, cell, seed, conditions)
        times.append(time.monotonic())
    draws = (times[1] - times[0], times[2] - times[1])
    sys.stdout.write(json.dumps([*clocks, *draws]) + "\n")
