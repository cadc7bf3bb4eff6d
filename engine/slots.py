"""Slot allocation: which value each row must store so that later rows find what they use.

Rows are given as update vectors over the symbols of their own and earlier rows. What row j uses
of earlier rows must lie in the span of its own state and of at most three history slots, and a
row can store one vector. ``allocate`` finds such storage or says why there is none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from revstep.engine.affine import Symbol, Vector
from revstep.engine.errors import ProgramError

__all__ = ["SLOTS", "Storage", "allocate"]

SLOTS = 3
EXACT = 1e-9  # a representation that misses by less is rounding


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """What one row reads and stores.

    Attributes:
        x: Addition to c_x, for values expressed by the row's own state.
        history: h_1 .. h_3.
        slot: The slot stored into, or -1.
        store: (k_x, k_m, k_0, k_h1, k_h2, k_h3).
    """

    x: float = 0.0
    history: tuple[float, float, float] = (0.0, 0.0, 0.0)
    slot: int = -1
    store: tuple[float, ...] = (0.0,) * 6


def allocate(updates: Sequence[Vector]) -> list[Storage]:
    """The storage of every row.

    Raises:
        ProgramError: Naming the row that reaches too far back, or needs two values of one row.
    """
    try:  # values of single rows first, as the papers have them: later rows can mix those freely
        return _allocate(updates, own=True)
    except ProgramError:
        return _allocate(updates, own=False)


def _allocate(updates: Sequence[Vector], *, own: bool) -> list[Storage]:
    needs = _needs(updates)
    slots: dict[int, Vector] = {}
    found = []
    for row, update in enumerate(updates):
        x, history = _express(update.before(row), slots, updates, row)
        kept, value = _choose(needs.get(row, []), slots, updates, row, own)
        slot, store = -1, (0.0,) * 6
        if value is not None:
            past_x, past = _express(value.before(row), slots, updates, row)
            store = (value.own(row, "x") + past_x, value.own(row, "m"), value.own(row, "0"), *past)
            slot = next(i for i in range(SLOTS) if i not in kept)
        slots = {i: slots[i] for i in kept}
        if value is not None:
            slots[slot] = value
        found.append(Storage(x, history, slot, store))
    return found


def _needs(updates: Sequence[Vector]) -> dict[int, list[Vector]]:
    """For each row, the distinct directions that later rows use of rows up to it."""
    needs: dict[int, dict[object, Vector]] = {}
    for later, update in enumerate(updates):
        first = min((s.row for s in update.terms), default=later)
        for row in range(first, later):
            part = update.before(row + 1)
            size = max(part.terms.values(), key=abs, default=0.0)
            if size != 0.0:
                unit = part * (1.0 / size)
                key = tuple(sorted((s, round(c, 12)) for s, c in unit.terms.items()))
                needs.setdefault(row, {}).setdefault(key, unit)
    return {row: list(found.values()) for row, found in needs.items()}


def _choose(
    needs: list[Vector],
    slots: dict[int, Vector],
    updates: Sequence[Vector],
    row: int,
    own: bool,
) -> tuple[tuple[int, ...], Vector | None]:
    """(slots to keep, vector to store or None): as few slots as will do."""
    if not needs:
        return (), None
    relations = _relations([*needs, *slots.values()], updates, row)
    for total in range(SLOTS + 1):  # rather keep a value than store it again
        for kept in combinations(sorted(slots), total):
            if not _missing(needs, kept, slots, updates[row], relations):
                return kept, None
        for kept in combinations(sorted(slots), total - 1) if total else ():
            missing = _missing(needs, kept, slots, updates[row], relations)
            known = [updates[row], *relations, *(slots[i] for i in kept)]
            for value in _candidates(missing, updates[row], row, own):
                if all(_spans([*known, value], v) for v in missing):
                    return kept, value
    raise ProgramError(
        f"the sampler can't be a program: after network call {row} later steps need more than "
        f"the state, {SLOTS} stored values, and one new stored value a call can give; "
        "use fewer past values, or combine them into one"
    )


def _missing(
    needs: list[Vector],
    kept: tuple[int, ...],
    slots: dict[int, Vector],
    update: Vector,
    relations: list[Vector],
) -> list[Vector]:
    """What the new state and the kept slots do not give."""
    known = [update, *relations, *(slots[i] for i in kept)]
    return [v for v in needs if not _spans(known, v)]


def _candidates(missing: list[Vector], update: Vector, row: int, own: bool) -> Iterable[Vector]:
    """Storable vectors (without the row's noise), the sparsest first; ``own``: of this row only."""
    noise = update.own(row, "z")
    for v in sorted(missing, key=lambda v: len(v.terms)):
        z = v.own(row, "z")
        if own:
            yield v - v.before(row) - z * Vector({Symbol(row, "z"): 1.0})
            continue
        if z == 0.0:
            yield v
        elif noise != 0.0:
            without = v - (z / noise) * update
            yield Vector({s: c for s, c in without.terms.items() if s != Symbol(row, "z")})


def _relations(vectors: list[Vector], updates: Sequence[Vector], row: int) -> list[Vector]:
    """What holds among the symbols in use: the state of row k is the update of row k - 1."""
    first = min((s.row for v in vectors for s in v.terms), default=row)
    return [Vector({Symbol(k, "x"): 1.0}) - updates[k - 1] for k in range(first + 1, row + 1)]


def _express(
    target: Vector, slots: dict[int, Vector], updates: Sequence[Vector], row: int
) -> tuple[float, tuple[float, float, float]]:
    """(coefficient of the row's x, coefficients of the slots) that give ``target``."""
    history = [0.0] * SLOTS
    rest = target
    for i, vector in slots.items():  # exact where a stored value is a symbol of its own
        symbol = max(vector.terms, key=lambda s, v=vector: abs(v.terms[s]))  # type: ignore[misc]
        if symbol in rest.terms:
            history[i] = rest.terms[symbol] / vector.terms[symbol]
            rest = rest - history[i] * vector
    if not rest.terms:
        return 0.0, (history[0], history[1], history[2])
    state = [updates[row - 1]] if row else []
    relations = _relations([target, *slots.values()], updates, row - 1)
    solution = _solve([*slots.values(), *state, *relations], target)
    if solution is None:
        raise ProgramError(
            f"network call {row} uses values of earlier calls that were not stored: {target!r}"
        )
    history = [0.0] * SLOTS
    for i, c in zip(slots, solution, strict=False):
        history[i] = c
    x = solution[len(slots)] if state else 0.0
    return x, (history[0], history[1], history[2])


def _spans(basis: list[Vector], target: Vector) -> bool:
    return _solve(basis, target) is not None


def _solve(basis: list[Vector], target: Vector) -> list[float] | None:
    """Coefficients over ``basis`` that give ``target``, or None."""
    symbols = sorted({s for v in (*basis, target) for s in v.terms})
    if not basis:
        return None if symbols else []
    matrix = np.array([[v.terms.get(s, 0.0) for v in basis] for s in symbols])
    wanted = np.array([target.terms.get(s, 0.0) for s in symbols])
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0.0] = 1.0
    solution = np.linalg.lstsq(matrix / scale, wanted, rcond=1e-12)[0] / scale
    error = np.abs(matrix @ solution - wanted).max()
    if error > EXACT * max(1e-300, float(np.abs(wanted).max())):
        return None
    solution[np.abs(solution) < 1e-14 * np.abs(solution).max()] = 0.0
    return [float(c) for c in solution]
