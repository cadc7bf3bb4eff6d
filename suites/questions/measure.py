"""Runs the questions and writes their rows: `python -m suites.questions.measure`.

Each `bench_*.py` beside this file is a question; pytest-benchmark runs it, and what it found
becomes rows: one a case, with the times of every round, ratios of the rounds that ran together,
what else the machine did meanwhile, versions and commit. With
`--output bench/results/questions.jsonl` they are added to the committed ones, and `make tables`
writes docs/benchmarks.md anew.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from revstep.bench.compare import ratio_interval
from revstep.bench.rows import append_row, new_row
from revstep.bench.stats.verdict import verdict
from suites.cpu.turns import ROOT, Tree
from suites.questions.compare import OURS

HERE = Path(__file__).parent
QUESTIONS = tuple(path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py")))
DIGITS = 4  # of the times that a row keeps


def figures_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """A case of pytest-benchmark's JSON as the figures of a row."""
    info = found["extra_info"]
    rounds = {OURS: found["stats"]["data"], **info["others"]}
    times = {
        name: [float(f"{t / info['each'][name]:.{DIGITS}g}") for t in seconds]
        for name, seconds in rounds.items()
    }
    others = [name for name in times if name != OURS]
    ratios = {name: ratio_interval([times[OURS]], [times[name]]) for name in others}
    return {
        "question": Path(found["fullname"].partition("::")[0]).stem.removeprefix("bench_"),
        "case": info["case"],
        "seconds": {name: _summary(values) for name, values in times.items()},
        "ratios": {name: {**over, "verdict": verdict(over)} for name, over in ratios.items()},
        "apart": info["apart"],
        "calls": info["each"],
        "disturbance": info["disturbance"],
        "times_s": times,
    }


def _summary(times: Sequence[float]) -> dict[str, float]:
    low, high = np.quantile(times, [0.25, 0.75])
    return {"median": median(times), "iqr": float(high - low), "rounds": len(times)}


def run(questions: Sequence[str], seconds: float) -> tuple[list[dict[str, Any]], int]:
    """The cases that pytest-benchmark measured, as it writes them, and pytest's exit status.

    Args:
        questions: Of ``QUESTIONS``.
        seconds: Of a case, about.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        files = [str(HERE / f"bench_{name}.py") for name in questions]
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
            *files,
            f"--benchmark-json={path}", f"--benchmark-max-time={seconds}",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, env=Tree().environment(), stdout=sys.stderr)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return (json.loads(text)["benchmarks"] if text else []), done.returncode


def said(figures: Mapping[str, Any]) -> str:
    """A line for a terminal."""
    ratios = "; ".join(
        f"{over['ratio']:.2f} [{over['low']:.2f}, {over['high']:.2f}] as fast as {name} "
        f"({over['verdict']})"
        for name, over in figures["ratios"].items()
    )
    time = f"{figures['seconds'][OURS]['median']:.3g} s"
    return f"{figures['question']}: {figures['case']}: {time}{ratios and '; '}{ratios}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and append rows to a file if one is named; gives pytest's exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.questions.measure", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=QUESTIONS)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each case, about")
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    options = parser.parse_args(arguments)
    if not options.seconds > 0.0:
        parser.error(f"--seconds {options.seconds} must be above 0")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found, status = run(options.only, options.seconds)
    for case in found:
        figures = figures_of(case)
        print(said(figures), flush=True)
        if options.output is not None:
            append_row(options.output, new_row("questions", {"run": now, **figures}, ROOT))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
