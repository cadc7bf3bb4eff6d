"""History: which value each row stores so that later rows find what they use.

A sampler's updates are vectors over symbols of their own and of earlier rows. While a row runs,
seven values are at hand: its state x, h_1 .. h_3 that earlier rows stored, its network output m,
its clipped estimate x0, and its noise z. After it the new state and the history remain, of which a
row writes one. ``allocate`` finds what every row stores, or says where later ones need too much.

Heun's method, for example, over the noise levels 4, 2 and 1 of a network that predicts the noise,
where alpha = 1 and the slope dx / dsigma is m itself::

    for now, then in run.steps:
        h = then.sigma - now.sigma
        d = run.denoise(x, now)
        e = run.denoise(x + h * d.eps, then)
        x = x + h / 2 * (d.eps + e.eps)

Each network call is a row. Row 1's update is of what row 0 had, x[0] and m[0], and of its own
output m[1]:

===  =====  ==========================  ===================  ========
row  sigma  the sampler asks for        the row computes     stores
===  =====  ==========================  ===================  ========
 0   4      x[0] - 2 m[0]               x - 2 m              m as h_1
 1   2      x[0] - m[0] - m[1]          x - m + h_1          -
 2   2      x[2] - m[2]                 x - m                m as h_1
 3   1      x[2] - 0.5 m[2] - 0.5 m[3]  x - 0.5 m + 0.5 h_1  -
===  =====  ==========================  ===================  ========

When row 1 runs, x[0] is gone: its x is what row 0 left, x[0] - 2 m[0]. It needs x[0] - m[0], two
old values, and yet one stored value serves: with h_1 = m[0] that is x + h_1. So the question at
every row is one of linear algebra: do the new state, the history that is kept, and one stored value
span all that later rows need of the rows up to here?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import ProgramError
from revstep.engine.program.vector import Symbol, Vector

HISTORY = 3  # values that rows can read
EXACT = 1e-9  # a representation that misses by less is rounding
DEAD_ENDS = 100  # choices taken back before the search gives up

# The values at hand in a row: its state, h_1 .. h_3 at their numbers, and what it makes itself.
X, M, X0, Z = 0, HISTORY + 1, HISTORY + 2, HISTORY + 3
VALUES = Z + 1
OWN = {"x": X, "m": M, "0": X0, "z": Z}

Array = NDArray[np.float64]
NOTHING = np.zeros(HISTORY + 1)
Past = dict[int, Array]  # of the consumers that use anything, few at a time: runs may be long
Choice = tuple[tuple[int, ...], Array | None]  # numbers of the kept history, what is stored


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """What one row reads and stores.

    Attributes:
        x: Addition to c_x, for values expressed by the row's own state.
        history: (h_1, h_2, h_3), the factors of the history in the new state.
        into: The history that is written, 0 to 2, or -1 for none.
        stored: (k_x, k_m, k_0, kh_1, kh_2, kh_3) of the value written.
    """

    x: float = 0.0
    history: tuple[float, float, float] = (0.0, 0.0, 0.0)
    into: int = -1
    stored: tuple[float, ...] = (0.0,) * 6


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
    consumers = _consumers(updates, values or {})
    found: list[Storage] = []
    past: list[Past] = [{}]  # past[k]: what each uses of rows before k, over x_k and the history
    options: list[Iterator[Choice]] = []
    dead_ends, furthest = 0, -1
    while (row := len(found)) < len(updates):
        used = consumers.used_at(row, past[row])
        waiting = [consumer for consumer in used if consumers.rows[consumer] > row]
        later = np.array([used[consumer] for consumer in waiting]).reshape(-1, VALUES)
        if len(options) == row:
            held = [i for i in range(1, HISTORY + 1) if np.any(later[:, i])]
            options.append(_choices(used[row], later, held, consumers.named_at(row, used)))
        choice = next(options[row], None)
        if choice is None:
            furthest = max(furthest, row)
            dead_ends += 1
            if row == 0 or dead_ends > DEAD_ENDS:
                raise ProgramError(_too_much(furthest, lines))
            del options[row], past[row], found[-1]
            continue
        kept, stored = choice
        into = 0 if stored is None else next(i for i in range(1, HISTORY + 2) if i not in kept)
        found.append(_storage(past[row].get(row, NOTHING), into, stored))
        after = _after(later, used[row], kept, into, stored)
        past.append({c: v for c, v in zip(waiting, after, strict=True) if np.any(v)})
    return found


def _storage(past: Array, into: int, stored: Array | None) -> Storage:
    x, h_1, h_2, h_3 = (float(c) for c in past)
    if stored is None:
        return Storage(x, (h_1, h_2, h_3))
    factors = (stored[X], stored[M], stored[X0], *stored[1 : HISTORY + 1])
    return Storage(x, (h_1, h_2, h_3), into - 1, tuple(float(c) for c in factors))


def _too_much(row: int, lines: Sequence[str] | None) -> str:
    where = f" ({lines[row]})" if lines else ""
    return (
        f"the sampler can't be a program: after network call {row}{where} later steps need more "
        f"than the state, {HISTORY} stored values, and one new stored value per call; "
        "use fewer past values, or combine them into one"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Consumers:
    """All that uses values, by number: the rows' updates first, then the values that they use.

    Attributes:
        rows: The row of each.
        own: For each row, (consumer, value, coefficient) of the row's own symbols.
        named: For each row, (consumer, number of the value used, coefficient) of sums that were
            computed in it and have a symbol of their own (``Tape.values``).
    """

    rows: list[int]
    own: list[list[tuple[int, int, float]]]
    named: list[list[tuple[int, int, float]]]

    def used_at(self, row: int, past: Past) -> Past:
        """What each consumer uses of rows up to ``row``, over the seven values of that row."""
        own, named = self.own[row], self.named[row]
        numbers = {row, *past, *(c for c, _, _ in own), *(n for use in named for n in use[:2])}
        used = {number: np.zeros(VALUES) for number in sorted(numbers)}
        for consumer, before in past.items():
            used[consumer][: HISTORY + 1] = before
        for consumer, value, c in own:
            used[consumer][value] += c
        for consumer, number, c in named:
            used[consumer] += c * used[number]
        return used

    def named_at(self, row: int, used: Past) -> list[Array]:
        """What later rows use of ``row`` by name: values of the row alone first."""
        symbols = {value for consumer, value, _ in self.own[row] if self.rows[consumer] > row}
        sums = {number for _, number, _ in self.named[row]}
        units = np.eye(VALUES)
        found = [
            *units[sorted(symbols & {M, X0})],
            *(used[number] for number in sorted(sums)),
            *units[list(symbols & {X})],
        ]
        return sorted(found, key=lambda v: np.count_nonzero(v[1 : HISTORY + 1]))


def _consumers(
    updates: Sequence[Vector], values: Mapping[Symbol, Mapping[Symbol, float]]
) -> _Consumers:
    terms: list[Mapping[Symbol, float]] = [update.terms for update in updates]
    rows = list(range(len(updates)))
    numbers: dict[Symbol, int] = {}
    own: list[list[tuple[int, int, float]]] = [[] for _ in updates]
    named: list[list[tuple[int, int, float]]] = [[] for _ in updates]
    for consumer, used in enumerate(terms):  # grows while it runs
        for symbol, c in used.items():
            if symbol in values:
                if symbol not in numbers:
                    numbers[symbol] = len(terms)
                    terms.append(values[symbol])
                    rows.append(symbol.row)
                named[symbol.row].append((consumer, numbers[symbol], c))
            else:
                own[symbol.row].append((consumer, OWN[symbol.kind], c))
    return _Consumers(rows, own, named)


def _choices(state: Array, later: Array, held: list[int], named: list[Array]) -> Iterator[Choice]:
    """What the row may keep and store so that the later rows are served; fewest values first.

    Args:
        state: The new state.
        later: What each later consumer uses of rows up to this.
        held: Numbers of the history that later rows use.
        named: What later rows use of this one by name.
    """
    needs = later[np.any(later != 0.0, axis=1)]
    if not len(needs):
        yield (), None
        return
    needs = needs / np.abs(needs).max(axis=1, keepdims=True)
    for total in range(HISTORY + 1):
        for kept in combinations(held, total):  # rather keep a value than store it again
            if not np.any(_unserved(needs, state, kept)):
                yield kept, None
        for kept in combinations(held, total - 1) if total else ():
            unserved = _unserved(needs, state, kept)
            if not np.any(unserved):
                continue
            for value in _storable([*named, *needs[np.any(unserved, axis=1)]], state):
                served = _unserved(value[None], state, kept)[0]
                if np.any(served) and _all_along(unserved, served):
                    yield kept, value


def _unserved(vectors: Array, state: Array, kept: tuple[int, ...]) -> Array:
    """What of the vectors neither the new state nor the kept history gives; exact 0 for nothing."""
    rest, own = vectors.copy(), state.copy()
    rest[:, kept], own[list(kept)] = 0.0, 0.0
    if (norm := float(np.linalg.norm(own))) > 0.0:
        own /= norm
        rest -= np.outer(rest @ own, own)
    rest[np.abs(rest).max(axis=1) <= EXACT * np.abs(vectors).max(axis=1)] = 0.0
    return rest


def _all_along(vectors: Array, direction: Array) -> bool:
    """Whether every vector is a multiple of the direction: one stored value then serves all."""
    unit = direction / np.linalg.norm(direction)
    rest = vectors - np.outer(vectors @ unit, unit)
    return bool(np.abs(rest).max() <= EXACT)


def _storable(wanted: Sequence[Array], state: Array) -> Iterator[Array]:
    """What a row can store for the vectors that are wanted, the best numbers first.

    A row can't store its noise, and need not store what the new state or the kept history gives.
    So of each wanted vector it may store: what the row itself knows of it (x, m, x0), which adds no
    rounding of the history's; or else all of it, history too, where the noise in it comes by way of
    the new state.
    """
    for vector in wanted:
        yield from _scaled(vector, (X, M, X0), vector)
    for vector in wanted:
        if vector[Z] == 0.0:
            yield from _scaled(vector, range(Z), vector)
        elif state[Z] != 0.0:
            yield from _scaled(vector - (vector[Z] / state[Z]) * state, range(Z), vector)


def _scaled(value: Array, parts: Sequence[int], wanted: Array) -> Iterator[Array]:
    """Those parts of a value, the largest as 1, if any is beyond the rounding of ``wanted``."""
    cut = np.zeros(VALUES)
    cut[list(parts)] = value[list(parts)]
    cut[np.abs(cut) <= 1e-14 * np.abs(wanted).max()] = 0.0
    if np.any(cut):
        yield cut / cut[np.argmax(np.abs(cut))] + 0.0  # no negative zeros


def _after(
    vectors: Array, state: Array, kept: tuple[int, ...], into: int, stored: Array | None
) -> Array:
    """The vectors over (new state, history) after the row, where the choice serves them."""
    out = np.zeros((len(vectors), HISTORY + 1))
    free = [i for i in range(VALUES) if i not in kept]
    for row in np.flatnonzero(np.any(vectors != 0.0, axis=1)):
        vector = vectors[row]
        size = float(np.abs(vector).max())
        rest = vector.copy()
        if stored is not None:  # without the state first: exact where a stored value is meant
            pivot = max(free, key=lambda i: abs(stored[i]))
            out[row, into] = rest[pivot] / stored[pivot]
            rest = rest - out[row, into] * stored
        if float(np.abs(rest[free]).max()) > EXACT * size:
            basis = [state, *([] if stored is None else [stored])]
            matrix = np.stack([b[free] for b in basis], axis=1)
            lengths = np.linalg.norm(matrix, axis=0)
            solution = np.linalg.lstsq(matrix / lengths, vector[free], rcond=1e-12)[0] / lengths
            out[row, into] = solution[-1]
            out[row, X] = solution[0]
            rest = vector - sum(c * b for c, b in zip(solution, basis, strict=True))
        for i in kept:
            out[row, i] = rest[i]
        out[row, np.abs(out[row]) <= 1e-13 * size] = 0.0
    return out
