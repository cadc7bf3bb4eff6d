"""Are its verdicts right? `python -m suites.verdicts.measure --output FILE.jsonl`.

Two engines of one bundle take turns, as whatever `revstep bench` compares does. In half of the
tries they are equal: "faster" or "slower" is wrong then. In the other half the second spins after
each run for 5 % of the time that the run took: only "faster", said of the first, is right. It takes
some minutes, on one core.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from revstep.bench.measure.cell import Cell
from revstep.bench.measure.openings import OPENINGS
from revstep.bench.measure.rounds import Budget
from revstep.bench.rows import append_row, new_row
from revstep.bench.stats.verdict import THRESHOLD, VERDICTS
from revstep.engine.bundle.reader import Bundle
from suites.cpu.context import last_core
from suites.cpu.networks import WHAT, make
from suites.cpu.turns import ROOT
from suites.service.sides import on_core
from suites.verdicts.sides import compared

PLANTED = 0.05
RIGHT = {0.0: ("same", "ambiguous"), PLANTED: ("faster",)}
NEEDED = {0.0: 19 / 20, PLANTED: 18 / 20}


def row_of(planted: float, tries: Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """The row of all tries with one difference: how many verdicts were right."""
    counts = Counter(each["verdict"] for each in tries)
    right = sum(counts[name] for name in RIGHT[planted])
    figures = {
        "planted": planted,
        "tries": len(tries),
        "right": right,
        "meets": right >= NEEDED[planted] * len(tries),
        "verdicts": {name: counts[name] for name in VERDICTS},
        "each": list(tries),
    }
    return new_row("verdicts", {**fields, **figures}, ROOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try, write the two rows, and print what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.verdicts.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    parser.add_argument("--tries", type=int, default=20, help="of each kind")
    parser.add_argument("--openings", type=int, default=OPENINGS, help="of both, in a try")
    parser.add_argument("--seconds", type=float, default=0.6, help="of an opening's rounds")
    parser.add_argument("--network", choices=list(WHAT), default="mlp")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--core", type=int, default=last_core(), help="that it runs on")
    options = parser.parse_args(arguments)
    log = logging.getLogger("revstep")
    level = log.level
    log.setLevel(logging.ERROR)  # that nothing was compiled, each time
    try:
        with on_core(options.core):
            rows = _rows(options)
    finally:
        log.setLevel(level)
    for row in rows:
        print(f"{row['planted']:.0%} slower: {row['right']} of {row['tries']} right")
        if options.output is not None:
            append_row(options.output, row)
    return int(not all(row["meets"] for row in rows))


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    from revstep.export import export_module

    cell = Cell(batch=options.batch, steps=options.steps, threads=1)
    budget = Budget(seconds=options.seconds * options.openings, warm_up=0.05)
    found: dict[float, list[dict[str, Any]]] = {planted: [] for planted in RIGHT}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{options.network}.revstep"
        module, spec = make(options.network)
        export_module(module, spec, path)
        bundle = Bundle.open(path)
        for number in range(options.tries):
            for planted, tries in found.items():
                one = compared(bundle, cell, budget, options.openings, planted, number)
                tries.append(one)
                print(
                    f"{number + 1}: {planted:.0%} slower: {one['verdict']}, {one['ratio']:.4f} "
                    f"({one['low']:.4f} to {one['high']:.4f}), {one['rounds']} rounds",
                    flush=True,
                )
    told = {
        "network": WHAT[options.network], "cell": cell.to_dict(), "openings": options.openings,
        "seconds": options.seconds, "noise": budget.noise, "threshold": THRESHOLD,
    }  # fmt: skip
    return [row_of(planted, tries, **told) for planted, tries in found.items()]


if __name__ == "__main__":
    raise SystemExit(main())
