"""Whole runs: this tree in fp32 and bf16, the last landed build, diffusers' loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from suites.cpu.context import (
    BASELINE,
    BOUNDS,
    COMPILED,
    EAGER,
    Measurement,
    figures,
    times_as_fast,
)
from suites.cpu.turns import Contender, Failed

PEERS = {BASELINE: BASELINE, EAGER: EAGER, COMPILED: COMPILED}


@dataclasses.dataclass(frozen=True)
class Case:
    """A run that every side makes.

    Attributes:
        network: Of ``NETWORKS``.
        batch: Samples.
        steps: DDIM's.
        guidance: Other than 1: classifier-free.
        pace: Of the turns.
    """

    network: str
    batch: int
    steps: int
    guidance: float = 1.0
    pace: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """As the rows have it."""
        guided = "" if self.guidance == 1.0 else f", guidance {self.guidance:g}"
        return f"{self.network}, batch {self.batch}, DDIM-{self.steps}{guided}"

    @property
    def options(self) -> dict[str, Any]:
        """Of the tasks."""
        return {"batch": self.batch, "steps": self.steps, "guidance": self.guidance}


CASES = (
    Case("policy", 16, 50, pace={"starts": 3, "minimum": 3, "seconds": 15.0}),
    Case("policy", 1, 50, pace={"starts": 3, "minimum": 4, "seconds": 8.0}),
    Case("unet", 16, 20, 1.5, pace={"starts": 2, "minimum": 2, "seconds": 25.0}),
)


def measure(run: Measurement) -> None:
    """A row a case."""
    for case in CASES:
        if run.quick:  # small random networks part from rounding over many steps
            case = dataclasses.replace(case, steps=3)
        run.case("runs", case.name, partial(_measured, run, case))


def contenders(run: Measurement, case: Case, chosen: Path | None) -> Iterator[Contender]:
    """Every side of a case: this tree by what compile chose, where it did, then the others."""
    plain = str(run.bundle(case.network))
    for precision in run.precisions if chosen else ():
        options = {"bundle": str(chosen), "precision": precision, **case.options}
        yield Contender(precision, "sample", options, bound=BOUNDS[precision])
    exact = BOUNDS["fp32"]
    if run.baseline is not None:
        options = {"bundle": plain, **case.options}
        yield Contender(BASELINE, "sample", options, run.baseline, bound=exact)
    for name, compiled in ((EAGER, False), (COMPILED, True)):
        options = {"network": case.network, "compiled": compiled, "tiny": run.quick}
        options |= case.options
        yield Contender(name, "peer", options, process=name, lasting=True, bound=exact)


def _measured(run: Measurement, case: Case) -> dict[str, Any]:
    try:
        chosen, failed = run.compiled(case.network), {}
    except Failed as error:
        chosen, failed = None, dict.fromkeys(run.precisions, str(error))
    found = run.turns(list(contenders(run, case, chosen)), **case.pace)
    found.failed |= failed
    ratios = {p: times_as_fast(found, p, PEERS) for p in run.precisions}
    return {**figures(found), **case.options, "network": case.network, "ratios": ratios}
