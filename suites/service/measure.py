"""The service under load: `python -m suites.service.measure --output bench/results/service.jsonl`.

In-flight batching, whole generations and one at a time serve the same requests in turns, over one
engine. The servers' threads are pinned to one core, the load generator's to another. Ten minutes
on a quiet machine; `--quick` is a trial of two.
"""

from __future__ import annotations

import argparse
import datetime
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from revstep.bench.described import without_place
from revstep.bench.rows import append_row, new_row
from revstep.engine.system.machine import processor
from suites.cpu.context import last_core
from suites.service import parts
from suites.service.cases import CASES, LOADS, Case
from suites.service.scheduler import scheduler_row
from suites.service.sides import MAX_QUEUE, SIDES, SLOTS, WHOLE
from suites.service.targets import summary

ROOT = Path(__file__).resolve().parents[2]
SEED = 11
COST_S = 0.15  # for a step of each number of rows

Add = Callable[..., None]


def measure_network(case: Case, folder: Path, setting: parts.Setting, add: Add) -> None:
    """All rows of one network."""
    engine = case.load(folder)
    costs = parts.step_costs(engine, setting.core, COST_S)
    add("steps", case.name, what=case.what, seconds=costs, engine=without_place(engine.describe()))
    with parts.all_sides(engine, list(SIDES), setting.core) as sides:
        seconds = parts.saturations(sides, engine, case, setting)
        found = parts.saturation_row(seconds, costs, case, setting)
        add("saturation", case.name, **found)
        for load in LOADS:
            rate = load * found["per_s"][WHOLE]
            row = parts.load_row(sides, engine, case, setting, costs, load, rate)
            add("load", f"{case.name}, {load:.0%}", **row)
    names = ("in flight", parts.FIXED_ROWS)
    with parts.all_sides(engine, names, setting.core) as sides:
        add("fixed rows", case.name, **parts.fixed_rows_row(sides, engine, case, setting))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write each row, and print the figures beside their targets."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.service.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [case.name for case in CASES]
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    parser.add_argument("--only", nargs="+", choices=[*names, "scheduler"], help="these alone")
    parser.add_argument("--quick", action="store_true", help="a trial: a tenth of the requests")
    parser.add_argument("--core", type=int, default=last_core(), help="of the servers' threads")
    parser.add_argument("--generator-core", type=int, help="of the load; else the first other one")
    parser.add_argument("--seed", type=int, default=SEED, help="of requests and arrivals")
    parser.add_argument("--keep", type=Path, help="the folder of the bundles, kept and used again")
    options = parser.parse_args(arguments)
    if options.quick and options.output and "bench/results" in options.output.as_posix():
        parser.error("--quick gives no rows for bench/results")
    other = options.generator_core
    if other is None:
        other = min(os.sched_getaffinity(0) - {options.core}, default=options.core)
    setting = parts.Setting(options.core, other, options.seed, 0.1 if options.quick else 1.0)
    print(f"seed {setting.seed}; servers on core {setting.core}, load on core {other}", flush=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    begun, rows = perf_counter(), []

    def add(part: str, name: str, **figures: Any) -> None:
        fields = {"run": now, "part": part, "name": name, "quick": options.quick}
        how = {"seed": setting.seed, "cores": [setting.core, other], "slots": SLOTS,
               "max_queue": MAX_QUEUE, "processor": processor()}  # fmt: skip
        rows.append(new_row("service", {**fields, **how, **figures}, ROOT))
        if options.output is not None:
            append_row(options.output, rows[-1])
        print(f"{perf_counter() - begun:5.0f} s  {part}: {name}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for case in CASES:
            if not options.only or case.name in options.only:
                measure_network(case, folder, setting, add)
        if not options.only or "scheduler" in options.only:
            add("scheduler", "64 slots", **scheduler_row(setting))
    print(f"\n{summary(rows)}\n{(perf_counter() - begun) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
