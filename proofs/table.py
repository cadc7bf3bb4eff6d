"""``python -m proofs.table``: the samplers and their largest errors, as a page."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from proofs.case import EXACT, PREDICTIONS, SHIPPED, Case
from proofs.cases import all_cases
from proofs.described import DIFFERENCES, SOURCES
from proofs.precision import INSTALL
from revstep.engine.program.samplers import SAMPLERS, make_sampler
from revstep.engine.program.table import build_program

__all__ = ["COLUMNS", "largest_errors", "main", "number", "page", "what_they_are"]

COLUMNS = (*PREDICTIONS, "edm")
STEPS = 20

Errors = dict[tuple[str, str], dict[str, float]]
"""(sampler, oracle) -> prediction -> largest error."""


def largest_errors(measured: Iterable[tuple[Case, float]]) -> Errors:
    """The largest error of every sampler, oracle and prediction."""
    found: Errors = defaultdict(dict)
    for case, error in measured:
        row, prediction = found[case.sampler, case.oracle.name], case.spec.prediction
        row[prediction] = float(np.maximum(row.get(prediction, 0.0), error))
    return dict(found)


def page(cases: list[Case], errors: Errors) -> str:
    """The page, in Markdown."""
    count = f"{len(cases):,}"
    return f"""# Samplers

`engine.sample(sampler=...)` takes a name of this page, `make_sampler(name, **options)`, or a
sampler of your own ([own-sampler.md](own-sampler.md)). Each is traced from the algebra of its file
in `engine/program/samplers/` into rows of coefficients; the network calls and the history slots
below are those of the rows.

## What they are

{what_they_are(cases)}

α and σ are those of x = α x0 + σ ε; t is the time of the call, s the time the step arrives at; z is
standard normal noise. Calls are those of {STEPS} steps with the default options; slots those of the
options that are compared below.

## Against published implementations

The largest error of the final state, in parts of its largest value (or of 1), over {count} runs:
options, noise schedules, grids and step counts of `bench/proofs`. The denoiser is a smooth
nonlinear function; noise is the same on both sides; the rows run in float64. diffusers'
schedulers run their own unchanged code, which finds float64 under the name float32 (limit
{EXACT:.0e}), and *as shipped*, with float32 tables (limit {SHIPPED:.0e}). A prediction that a
scheduler doesn't know reaches it as another one of the same denoiser. `edm` is a raw network over
EDM's noise levels; the other predictions run over VP schedules, and for the `FlowMatch*`
schedulers, `flow_euler` and `flow_heun` over a flow. A dash: the oracle has no such case.

{_against(errors)}

Made by `python -m proofs.table`; `tests/engine/program/test_samplers.py` asserts every run.

### Where others differ

{DIFFERENCES}
"""


def what_they_are(cases: list[Case]) -> str:
    """The first table: source, step, options, network calls and slots of every sampler."""
    lines = ["| sampler | source | step | options | calls | slots |", "|---|---|---|---|---|---|"]
    for name, cls in SAMPLERS.items():
        source, step = SOURCES[name]
        options = ", ".join(
            f"{f.name}={f.default!r}"
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        )
        own = [case for case in cases if case.sampler == name]
        calls = build_program(own[0].spec, make_sampler(name), STEPS).length
        lines.append(
            f"| `{name}` | {source} | {step} | {f'`{options}`' if options else '-'} "
            f"| {calls} | {_slots(own)} |"
        )
    return "\n".join(lines)


def _slots(cases: list[Case]) -> str:
    longest: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.steps or 0):
        longest[str(sorted(case.options.items()))] = case
    found = {
        build_program(c.spec, make_sampler(c.sampler, **c.options), c.steps).history
        for c in longest.values()
    }
    return f"{max(found)}" if len(found) == 1 else f"{min(found)} to {max(found)}"


def _against(errors: Errors) -> str:
    lines = [
        f"| sampler | oracle | {' | '.join(COLUMNS)} |",
        f"|---|---|{'---|' * len(COLUMNS)}",
    ]
    order = list(SAMPLERS)
    for (name, oracle), row in sorted(errors.items(), key=lambda item: order.index(item[0][0])):
        cells = (number(row[p]) if p in row else "-" for p in COLUMNS)
        lines.append(f"| `{name}` | {oracle} | {' | '.join(cells)} |")
    return "\n".join(lines)


def number(error: float) -> str:
    """One digit, rounded up: what is shown is no less than what was found."""
    if error == 0.0 or not math.isfinite(error):
        return f"{error:.0f}"
    power = math.floor(math.log10(error))
    digit = math.ceil(error / 10.0**power)
    return f"1e{power + 1:+03d}" if digit == 10 else f"{digit}e{power:+03d}"


def main(arguments: list[str] | None = None) -> int:
    """Writes the page; the exit status is 1 where an error exceeds its limit."""
    name = "python -m proofs.table"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/samplers.md"), help="the page")
    out: Path = parser.parse_args(arguments).out
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    cases = all_cases()
    try:
        measured = [(case, case.error()) for case in cases]
    except ModuleNotFoundError as missing:
        print(missing if str(missing) == INSTALL else f"{missing}; {INSTALL}", file=sys.stderr)
        return 2
    bad = [(case, error) for case, error in measured if not error <= case.limit]
    for case, error in bad:
        print(f"differs by {error:.1e}: {case}", file=sys.stderr)
    out.write_text(page(cases, largest_errors(measured)), encoding="utf-8")
    print(f"{out}: {len(cases)} runs")
    return 1 if bad else 0


if __name__ == "__main__":
    logging.getLogger("revstep").setLevel(logging.ERROR)  # the cases go too far on purpose
    sys.exit(main())
