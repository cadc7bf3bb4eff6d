"""A run's table as the steps that one would write by hand: only terms that are not zero."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from revstep.engine.program.table import StepProgram
from revstep.kernels import columns as col

Terms = tuple[tuple[float, str], ...]
"""(coefficient, of which value): x, m, x0, z, and q1 to q3 for what was stored."""

HISTORY = ("q1", "q2", "q3")
UPDATE = {
    "x": col.C_X, "m": col.C_M, "x0": col.C_0,
    **dict(zip(HISTORY, (col.H_1, col.H_2, col.H_3), strict=True)), "z": col.S,
}  # fmt: skip
STORED = {
    "x": col.K_X, "m": col.K_M, "x0": col.K_0,
    **dict(zip(HISTORY, (col.KH_1, col.KH_2, col.KH_3), strict=True)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        c_in: What the network's input is scaled with.
        weight: w of the guidance 1 + w (g - 1).
        estimate: p_x and p_m of x0 = p_x x + p_m m; None: x0 is not needed.
        clip: The ends of x0.
        update: Of the next state.
        stored: Of what is kept for later steps; empty: nothing is.
        into: Where that is kept.
        log_betas: Both ends of a learned variance's logarithm.
    """

    c_in: float
    weight: float
    estimate: Terms | None
    clip: tuple[float, float] | None
    update: Terms
    stored: Terms
    into: str
    log_betas: tuple[float, float]

    @property
    def draws(self) -> bool:
        """Whether it adds noise."""
        return any(name == "z" for _, name in self.update)


def steps_of(program: StepProgram) -> tuple[Step, ...]:
    """The steps of a program."""
    return tuple(_step(row) for row in program.table[:-1].astype(np.float64))


def _step(row: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Step:
    update = _terms(row, UPDATE)
    keeps = row[col.STORE] >= 0
    stored = _terms(row, STORED) if keeps else ()
    asked = any(name == "x0" for _, name in (*update, *stored))
    low, high = float(row[col.LO]), float(row[col.HI])
    return Step(
        c_in=float(row[col.C_IN]),
        weight=float(row[col.W]),
        estimate=_terms(row, {"x": col.P_X, "m": col.P_M}) if asked else None,
        clip=None if math.isinf(low) and math.isinf(high) else (low, high),
        update=update,
        stored=stored,
        into=HISTORY[int(row[col.STORE])] if keeps else "",
        log_betas=(float(row[col.LOG_BETA]), float(row[col.LOG_BETA_TILDE])),
    )


def _terms(
    row: np.ndarray[tuple[int, ...], np.dtype[np.float64]], columns: dict[str, int]
) -> Terms:
    found = tuple((float(row[c]), name) for name, c in columns.items() if row[c] != 0.0)
    return found or ((0.0, "x"),)
