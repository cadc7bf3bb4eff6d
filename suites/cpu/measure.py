"""The CPU suite: `python -m suites.cpu.measure --baseline PATH --output bench/results/cpu.jsonl`.

Everything that is compared takes turns in one run, in processes of one thread that are pinned to
one core. What fails is a row with the reason. docs/cpu.md says how to make the baseline; it takes
about a quarter of an hour on a quiet machine, `--quick` two minutes on small networks.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from suites.cpu import grid, loop, memory, quality, runs, starts
from suites.cpu.context import Measurement, last_core
from suites.cpu.targets import summary
from suites.cpu.turns import Tree

PARTS: dict[str, Callable[[Measurement], None]] = {
    "runs": runs.measure,
    "loop": loop.measure,
    "grid": grid.measure,
    "memory": memory.measure,
    "starts": starts.measure,
    "quality": quality.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write each row, and print the figures beside their targets."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.cpu.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--baseline", type=Path, help="an earlier build: a virtual environment, or a ready checkout"
    )
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts alone")
    parser.add_argument("--quick", action="store_true", help="a trial: small networks, few rounds")
    parser.add_argument("--core", type=int, default=last_core(), help="that is timed on")
    parser.add_argument("--seconds", type=float, default=20.0, help="of compile, for each bundle")
    parser.add_argument("--keep", type=Path, help="the folder of the bundles, kept and used again")
    options = parser.parse_args(arguments)
    if options.quick and options.output and "bench/results" in options.output.as_posix():
        parser.error("--quick gives no rows for bench/results")
    baseline = None if options.baseline is None else Tree.at(options.baseline)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    begun = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Measurement(
            folder=options.keep or Path(folder), core=options.core, started=now, baseline=baseline,
            quick=options.quick, output=options.output,
            seconds=2.0 if options.quick else options.seconds,
        )  # fmt: skip
        run.folder.mkdir(parents=True, exist_ok=True)
        for name in options.only or PARTS:
            PARTS[name](run)
    print(f"\n{summary(run.rows)}\n{(perf_counter() - begun) / 60:.1f} minutes")
    return int(any("reason" in row for row in run.rows))


if __name__ == "__main__":
    raise SystemExit(main())
