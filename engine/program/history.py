"""Slot allocation: which value each row must store so that later rows find what they use.

Rows are given as update vectors over the symbols of their own and earlier rows. While row k runs,
seven values are at hand: its state, three history slots, its m, x0 and noise. What later rows use
of rows up to k are vectors over those seven; after the row they must be vectors over the new state
and the slots, of which the row can write one. ``allocate`` searches for such storage, or says why
there is none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import ProgramError
from revstep.engine.program.vector import Symbol, Vector

__all__ = ["SLOTS", "Storage", "allocate"]

SLOTS = 3
EXACT = 1e-9  # a representation that misses by less is rounding
DEAD_ENDS = 100  # choices taken back before the search gives up

X, M, X0, Z = 0, SLOTS + 1, SLOTS + 2, SLOTS + 3  # the state, slots 1..3, then the row's own
VALUES = Z + 1
OWN = {"x": X, "m": M, "0": X0, "z": Z}

Array = NDArray[np.float64]
NOTHING = np.zeros(SLOTS + 1)
Past = dict[int, Array]  # of the users that use anything, few at a time: runs may be long
Choice = tuple[tuple[int, ...], Array | None]
"""(slots kept, vector stored or None)."""


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


def allocate(
    updates: Sequence[Vector],
    values: Mapping[Symbol, Mapping[Symbol, float]] | None = None,
    lines: Sequence[str] | None = None,
) -> list[Storage]:
    """The storage of every row, by depth-first search over what each may keep and store.

    Args:
        updates: What each row makes of the state, over symbols of its own and earlier rows.
        values: Terms of the values that those symbols name.
        lines: Where the sampler makes each network call, for the error.

    Raises:
        ProgramError: Naming the row after which later ones need too much.
    """
    users = _users(updates, values or {})
    found: list[Storage] = []
    past: list[Past] = [{}]  # past[k][user]: what it uses of rows before k, over x_k and the slots
    options: list[Iterator[Choice]] = []
    dead_ends, furthest = 0, -1
    while (row := len(found)) < len(updates):
        table = users.over_values(row, past[row])
        waiting = [user for user in table if users.rows[user] > row]
        later = np.array([table[user] for user in waiting]).reshape(-1, VALUES)
        if len(options) == row:
            held = [i for i in range(1, SLOTS + 1) if np.any(later[:, i])]
            options.append(_choices(table[row], later, held, users.fresh(row, table)))
        choice = next(options[row], None)
        if choice is None:
            furthest = max(furthest, row)
            dead_ends += 1
            if row == 0 or dead_ends > DEAD_ENDS:
                raise ProgramError(_too_much(furthest, lines))
            del options[row], past[row], found[-1]
            continue
        kept, value = choice
        slot = next(i for i in range(1, SLOTS + 2) if i not in kept) if value is not None else 0
        found.append(_storage(past[row].get(row, NOTHING), slot, value))
        kept_of = _express(later, table[row], kept, slot, value)
        past.append({u: v for u, v in zip(waiting, kept_of, strict=True) if np.any(v)})
    return found


def _storage(past: Array, slot: int, value: Array | None) -> Storage:
    x, h_1, h_2, h_3 = (float(c) for c in past)
    if value is None:
        return Storage(x, (h_1, h_2, h_3))
    store = (value[X], value[M], value[X0], *value[1 : SLOTS + 1])
    return Storage(x, (h_1, h_2, h_3), slot - 1, tuple(float(c) for c in store))


def _too_much(row: int, lines: Sequence[str] | None) -> str:
    where = f" ({lines[row]})" if lines else ""
    return (
        f"the sampler can't be a program: after network call {row}{where} later steps need more "
        f"than the state, {SLOTS} stored values, and one new stored value a call can give; "
        "use fewer past values, or combine them into one"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Users:
    """All that uses values: the rows' updates first, then the values they use in turn.

    Attributes:
        rows: The row of each.
        own: For each row, (user, value, coefficient) of the row's own symbols.
        named: For each row, (user, used value's number, coefficient) of values computed in it.
    """

    rows: list[int]
    own: list[list[tuple[int, int, float]]]
    named: list[list[tuple[int, int, float]]]

    def over_values(self, row: int, past: Past) -> Past:
        """The users' parts of rows up to ``row``, over the seven values of that row."""
        own, named = self.own[row], self.named[row]
        users = {row, *past, *(user for user, _, _ in own), *(u for use in named for u in use[:2])}
        table = {user: np.zeros(VALUES) for user in sorted(users)}
        for user, values in past.items():
            table[user][: SLOTS + 1] = values
        for user, value, c in own:
            table[user][value] += c
        for user, used, c in named:
            table[user] += c * table[used]
        return table

    def fresh(self, row: int, table: Past) -> list[Array]:
        """What the row itself makes and later ones name, purely its own values first."""
        symbols = {value for user, value, _ in self.own[row] if self.rows[user] > row}
        named = {used for _, used, _ in self.named[row]}
        units = np.eye(VALUES)
        found = [
            *units[sorted(symbols & {M, X0})],
            *(table[used] for used in sorted(named)),
            *units[list(symbols & {X})],
        ]
        return sorted(found, key=lambda v: np.count_nonzero(v[1 : SLOTS + 1]))


def _users(updates: Sequence[Vector], values: Mapping[Symbol, Mapping[Symbol, float]]) -> _Users:
    terms: list[Mapping[Symbol, float]] = [update.terms for update in updates]
    rows = list(range(len(updates)))
    numbers: dict[Symbol, int] = {}
    own: list[list[tuple[int, int, float]]] = [[] for _ in updates]
    named: list[list[tuple[int, int, float]]] = [[] for _ in updates]
    for user, used in enumerate(terms):  # grows while it runs
        for symbol, c in used.items():
            if symbol in values:
                if symbol not in numbers:
                    numbers[symbol] = len(terms)
                    terms.append(values[symbol])
                    rows.append(symbol.row)
                named[symbol.row].append((user, numbers[symbol], c))
            else:
                own[symbol.row].append((user, OWN[symbol.kind], c))
    return _Users(rows, own, named)


def _choices(update: Array, later: Array, slots: list[int], fresh: list[Array]) -> Iterator[Choice]:
    """What the row may keep and store so that the later rows are served; fewest slots first.

    Args:
        update: The new state.
        later: What each later user needs of rows up to this.
        slots: Those that hold something.
        fresh: What the row makes and later rows name.
    """
    needs = later[np.any(later != 0.0, axis=1)]
    if not len(needs):
        yield (), None
        return
    needs = needs / np.abs(needs).max(axis=1, keepdims=True)
    for total in range(SLOTS + 1):
        for kept in combinations(slots, total):  # rather keep a value than store it again
            if not np.any(_missing(needs, update, kept)):
                yield kept, None
        for kept in combinations(slots, total - 1) if total else ():
            missing = _missing(needs, update, kept)
            if not np.any(missing):
                continue
            for value in _candidates([*fresh, *needs[np.any(missing, axis=1)]], update):
                step = _missing(value[None], update, kept)[0]
                if np.any(step) and _parallel(missing, step):
                    yield kept, value


def _missing(vectors: Array, update: Array, kept: tuple[int, ...]) -> Array:
    """What of the vectors neither the new state nor the kept slots give; exact zeros for none."""
    rest, state = vectors.copy(), update.copy()
    rest[:, kept], state[list(kept)] = 0.0, 0.0
    if (norm := float(np.linalg.norm(state))) > 0.0:
        state /= norm
        rest -= np.outer(rest @ state, state)
    rest[np.abs(rest).max(axis=1) <= EXACT * np.abs(vectors).max(axis=1)] = 0.0
    return rest


def _parallel(vectors: Array, direction: Array) -> bool:
    unit = direction / np.linalg.norm(direction)
    rest = vectors - np.outer(vectors @ unit, unit)
    return bool(np.abs(rest).max() <= EXACT)


def _candidates(wanted: Sequence[Array], update: Array) -> Iterator[Array]:
    """Vectors that a row can store (no noise), those of the row's own values first."""
    for keep in ((X, M, X0), range(Z), (M, X0)):
        for vector in wanted:
            value = vector
            if len(keep) == Z and vector[Z] != 0.0:
                if update[Z] == 0.0:
                    continue
                value = vector - (vector[Z] / update[Z]) * update  # by way of the new state
            cut = np.zeros(VALUES)
            cut[list(keep)] = value[list(keep)]
            cut[np.abs(cut) <= 1e-14 * np.abs(vector).max()] = 0.0
            if np.any(cut):
                yield cut / cut[np.argmax(np.abs(cut))] + 0.0  # no negative zeros


def _express(
    vectors: Array, update: Array, kept: tuple[int, ...], slot: int, value: Array | None
) -> Array:
    """The vectors over (new state, slots), where the choice serves them."""
    out = np.zeros((len(vectors), SLOTS + 1))
    rows = np.flatnonzero(np.any(vectors != 0.0, axis=1))
    free = [i for i in range(VALUES) if i not in kept]
    for row in rows:
        vector = vectors[row]
        size = float(np.abs(vector).max())
        rest = vector.copy()
        if value is not None:  # without the state first: exact where a stored value is meant
            pivot = max(free, key=lambda i: abs(value[i]))
            out[row, slot] = rest[pivot] / value[pivot]
            rest = rest - out[row, slot] * value
        if float(np.abs(rest[free]).max()) > EXACT * size:
            basis = [update, *([] if value is None else [value])]
            matrix = np.stack([b[free] for b in basis], axis=1)
            lengths = np.linalg.norm(matrix, axis=0)
            solution = np.linalg.lstsq(matrix / lengths, vector[free], rcond=1e-12)[0] / lengths
            out[row, slot] = solution[-1]
            out[row, X] = solution[0]
            rest = vector - sum(c * b for c, b in zip(solution, basis, strict=True))
        for i in kept:
            out[row, i] = rest[i]
        out[row, np.abs(out[row]) <= 1e-13 * size] = 0.0
    return out
