"""What comes before a run: tracing a sampler, importing the package."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import Any

from suites.cpu.context import BASELINE, Measurement, figures, times_as_fast
from suites.cpu.turns import OURS, Contender, Failed, Found, Tree, last_words

TRACES = (("heun", 1000), ("dpmpp_3m", 1000), ("unipc", 300))
PACE = {"starts": 2, "minimum": 4, "maximum": 4}
IMPORTS = 12
IMPORT = (
    "import os, time; os.sched_setaffinity(0, {%d}); import numpy; "
    "begun = time.process_time(); import revstep; print(time.process_time() - begun)"
)


def measure(run: Measurement) -> None:
    """A row a sampler, and one of the import."""
    for sampler, steps in TRACES:
        name = f"{sampler}, {steps} steps"
        run.case("tracing", name, partial(_traced, run, sampler, steps))
    run.case("import", "import revstep, after numpy", partial(_imported, run))


def _sides(run: Measurement) -> dict[str, Tree]:
    return {"revstep": OURS, **({} if run.baseline is None else {BASELINE: run.baseline})}


def _traced(run: Measurement, sampler: str, steps: int) -> dict[str, Any]:
    asked = {"sampler": sampler, "steps": steps}
    sides = [Contender(name, "trace", asked, tree) for name, tree in _sides(run).items()]
    return {**asked, **_compared(run.turns(sides, **PACE))}


def _imported(run: Measurement) -> dict[str, Any]:
    """Processor time of fresh processes, in turns; the first writes the bytecode."""
    found = Found()
    for number in range(-1, 2 if run.quick else IMPORTS):
        for name, tree in list(_sides(run).items())[:: -1 if number % 2 else 1]:
            seconds = _import_seconds(tree, run.core)
            if number >= 0:
                found.times.setdefault(name, [[]])[0].append(seconds)
    over = times_as_fast(found, BASELINE, {"ours": "revstep"}).get("ours")
    return {**_compared(found), "over": over}


def _import_seconds(tree: Tree, core: int) -> float:
    done = subprocess.run(
        [tree.python, "-c", IMPORT % core], env=tree.environment(), cwd="/",
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise Failed(last_words(done.stderr))
    return float(done.stdout)


def _compared(found: Found) -> dict[str, Any]:
    return {**figures(found), "ratios": times_as_fast(found, "revstep", {BASELINE: BASELINE})}
