"""docs/samplers.md: the samplers and their largest errors: ``python -m proofs.pages.samplers``.

The text is that of ``samplers.md`` beside this file.
"""

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

from proofs.oracles.case import EXACT, PREDICTIONS, SHIPPED, Case
from proofs.oracles.families import all_cases
from proofs.oracles.float64 import INSTALL
from proofs.pages.proofs import table_rows
from revstep.engine.program.samplers import SAMPLERS, make_sampler
from revstep.engine.program.table import build_program

TEMPLATE = Path(__file__).with_suffix(".md")
COLUMNS = (*PREDICTIONS, "edm", "average_velocity", "jump")
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
    order = list(SAMPLERS)
    compared = (
        (f"`{name}`", oracle, *(number(row[p]) if p in row else "-" for p in COLUMNS))
        for (name, oracle), row in sorted(errors.items(), key=lambda item: order.index(item[0][0]))
    )
    return TEMPLATE.read_text(encoding="utf-8").format(
        steps=STEPS,
        count=len(cases),
        exact=EXACT,
        shipped=SHIPPED,
        errors=table_rows(compared),
        **{name: _rows_of(name, cases) for name in SAMPLERS},
    )


def _rows_of(sampler: str, cases: list[Case]) -> str:
    """Its options, network calls and histories: three cells."""
    options = ", ".join(
        f"{f.name}={f.default!r}"
        for f in dataclasses.fields(SAMPLERS[sampler])  # type: ignore[arg-type]
    )
    own = [case for case in cases if case.sampler == sampler]
    calls = build_program(own[0].spec, make_sampler(sampler), STEPS).length
    return f"{f'`{options}`' if options else '-'} | {calls} | {_history(own)}"


def _history(cases: list[Case]) -> str:
    longest: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.steps or 0):
        longest[str(sorted(case.options.items()))] = case
    found = {
        build_program(c.spec, make_sampler(c.sampler, **c.options), c.steps).history
        for c in longest.values()
    }
    return f"{max(found)}" if len(found) == 1 else f"{min(found)} to {max(found)}"


def number(error: float) -> str:
    """One digit, rounded up: what is shown is no less than what was found."""
    if error == 0.0 or not math.isfinite(error):
        return f"{error:.0f}"
    power = math.floor(math.log10(error))
    digit = math.ceil(error / 10.0**power)
    return f"1e{power + 1:+03d}" if digit == 10 else f"{digit}e{power:+03d}"


def main(arguments: list[str] | None = None) -> int:
    """Writes the page; the exit status is 1 where an error exceeds its limit."""
    name = "python -m proofs.pages.samplers"
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
