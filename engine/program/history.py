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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import isfinite, isnan, nan
from operator import mul
from typing import NamedTuple

from revstep.engine.errors import ProgramError
from revstep.engine.program.vector import Symbol, Vector

HISTORY = 3  # values that rows can read
EXACT = 1e-9  # a representation that misses by less is rounding
PARALLEL = 10 * EXACT  # what misses by more is along no stored value
DEAD_ENDS = 100  # choices taken back before the search gives up

# The values at hand in a row: its state, h_1 .. h_3 at their numbers, and what it makes itself.
X, M, X0, Z = 0, HISTORY + 1, HISTORY + 2, HISTORY + 3
VALUES = Z + 1
OWN = {"x": X, "m": M, "0": X0, "z": Z}

Values = list[float]  # of VALUES numbers; lists, as numpy takes longer for so few
NOTHING = [0.0] * (HISTORY + 1)
UNITS = [[float(i == k) for i in range(VALUES)] for k in range(VALUES)]
Past = dict[int, Values]  # of the consumers that use anything, few at a time: runs may be long
Choice = tuple[tuple[int, ...], Values | None]  # numbers of the kept history, what is stored


class Storage(NamedTuple):
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
    lines: Sequence[object] | None = None,
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
        later = [used[consumer] for consumer in waiting]
        if len(options) == row:
            held = [i for i in range(1, HISTORY + 1) if any(use[i] for use in later)]
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
        past.append({c: v for c, v in zip(waiting, after, strict=True) if any(v)})
        if (beyond := row - DEAD_ENDS - 1) >= 0:  # the search can't go back so far
            options[beyond], past[beyond] = iter(()), {}
    return found


def _storage(past: Values, into: int, stored: Values | None) -> Storage:
    x, h_1, h_2, h_3 = past
    if stored is None:
        return Storage(x, (h_1, h_2, h_3))
    factors = (stored[X], stored[M], stored[X0], *stored[1 : HISTORY + 1])
    return Storage(x, (h_1, h_2, h_3), into - 1, factors)


def _too_much(row: int, lines: Sequence[object] | None) -> str:
    where = f" ({lines[row]})" if lines else ""
    return (
        f"the sampler can't be a program: after network call {row}{where} later steps need more "
        f"than the state, {HISTORY} stored values, and one new stored value per call; "
        "use fewer past values, or combine them into one"
    )


class _Consumers(NamedTuple):
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
        numbers = {row, *past}
        for consumer, _, _ in own:
            numbers.add(consumer)
        for consumer, number, _ in named:
            numbers.update((consumer, number))
        used = {number: [0.0] * VALUES for number in sorted(numbers)}
        for consumer, before in past.items():
            used[consumer][: HISTORY + 1] = before
        for consumer, value, c in own:
            used[consumer][value] += c
        for consumer, number, c in named:
            used[consumer] = _plus(used[consumer], c, used[number])
        return used

    def named_at(self, row: int, used: Past) -> list[Values]:
        """What later rows use of ``row`` by name: values of the row alone first."""
        symbols = {value for consumer, value, _ in self.own[row] if self.rows[consumer] > row}
        sums = {number for _, number, _ in self.named[row]}
        found = [
            *(UNITS[value] for value in (M, X0) if value in symbols),
            *(used[number] for number in sorted(sums)),
            *(UNITS[value] for value in (X,) if value in symbols),
        ]
        return sorted(found, key=lambda v: sum(c != 0.0 for c in v[1 : HISTORY + 1]))


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


def _choices(
    state: Values, later: list[Values], held: list[int], named: list[Values]
) -> Iterator[Choice]:
    """What the row may keep and store so that the later rows are served; fewest values first.

    Args:
        state: The new state.
        later: What each later consumer uses of rows up to this.
        held: Numbers of the history that later rows use.
        named: What later rows use of this one by name.
    """
    needs = []
    for use in filter(any, later):
        size = _size(use)
        needs.append([c / size for c in use])
    if not needs:
        yield (), None
        return
    without: dict[tuple[int, ...], list[Values]] = {}
    for total in range(HISTORY + 1):
        for kept in combinations(held, total):  # rather keep a value than store it again
            without[kept] = _unserved(needs, state, kept)
            if not any(map(any, without[kept])):
                yield kept, None
        for kept in combinations(held, total - 1) if total else ():
            unserved = [rest for rest in without[kept] if any(rest)]
            if not unserved or not _parallel(unserved):
                continue
            left = [need for need, rest in zip(needs, without[kept], strict=True) if any(rest)]
            for value in _storable([*named, *left], state):
                (served,) = _unserved([value], state, kept)
                if any(served) and _all_along(unserved, served, EXACT):
                    yield kept, value


def _size(vector: Values) -> float:
    """The largest magnitude; NaN where there is one, which ``max`` passes over."""
    if not isfinite(sum(vector)) and any(map(isnan, vector)):
        return nan
    return max(map(abs, vector))


def _scale(vector: Values, factor: float) -> Values:
    return [factor * c for c in vector]


def _plus(vector: Values, factor: float, other: Values) -> Values:
    return [a + factor * b for a, b in zip(vector, other, strict=True)]


def _dot(one: Values, other: Values) -> float:
    total: float = sum(map(mul, one, other))
    return total


def _without(vector: Values, kept: tuple[int, ...]) -> Values:
    return [0.0 if i in kept else c for i, c in enumerate(vector)] if kept else vector


def _unserved(vectors: list[Values], state: Values, kept: tuple[int, ...]) -> list[Values]:
    """What of vectors of size 1 neither new state nor kept history gives; exact 0 for nothing."""
    own = _without(state, kept)
    square = _dot(own, own)
    found = []
    for vector in vectors:
        rest = _without(vector, kept)
        if square > 0.0:
            rest = _plus(rest, -_dot(rest, own) / square, own)
        found.append([0.0] * VALUES if _size(rest) <= EXACT else rest)
    return found


def _parallel(vectors: list[Values]) -> bool:
    """Whether one stored value can serve all, which one vector alone doesn't rule out."""
    return len(vectors) == 1 or _all_along(vectors, max(vectors, key=_size), PARALLEL)


def _all_along(vectors: list[Values], direction: Values, within: float) -> bool:
    """Whether every vector is a multiple of the direction: one stored value then serves all."""
    square = _dot(direction, direction)
    return all(
        _size(_plus(vector, -_dot(vector, direction) / square, direction)) <= within
        for vector in vectors
    )


def _storable(wanted: Sequence[Values], state: Values) -> Iterator[Values]:
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
            cleared = _plus(vector, -(vector[Z] / state[Z]), state)
            yield from _scaled(cleared, range(Z), vector)


def _scaled(value: Values, parts: Iterable[int], wanted: Values) -> Iterator[Values]:
    """Those parts of a value, the largest as 1, if any is beyond the rounding of ``wanted``."""
    rounding = 1e-14 * _size(wanted)
    cut = [0.0] * VALUES
    for i in parts:
        if not abs(value[i]) <= rounding:
            cut[i] = value[i]
    if any(cut) and isfinite(sum(cut)):
        largest = max(cut, key=abs)
        yield [c / largest + 0.0 for c in cut]  # no negative zeros


def _after(
    vectors: list[Values], state: Values, kept: tuple[int, ...], into: int, stored: Values | None
) -> list[Values]:
    """The vectors over (new state, history) after the row, where the choice serves them."""
    free = [i for i in range(VALUES) if i not in kept]
    return [
        _over(vector, state, kept, free, into, stored) if any(vector) else NOTHING
        for vector in vectors
    ]


def _over(
    vector: Values,
    state: Values,
    kept: tuple[int, ...],
    free: list[int],
    into: int,
    stored: Values | None,
) -> Values:
    out, rest = NOTHING.copy(), vector
    size = _size(vector)
    if stored is not None:  # without the state first: exact where a stored value is meant
        pivot = max(free, key=lambda i: abs(stored[i]))
        out[into] = rest[pivot] / stored[pivot]
        rest = _plus(rest, -out[into], stored)
    if _size([rest[i] for i in free]) > EXACT * size:
        out[X], out[into] = _factors(vector, state, stored, free)
        total = _scale(state, out[X])
        if stored is not None:
            total = _plus(total, out[into], stored)
        rest = _plus(vector, -1.0, total)
    for i in kept:
        out[i] = rest[i]
    return [0.0 if abs(c) <= 1e-13 * size else c for c in out]


def _factors(
    vector: Values, state: Values, stored: Values | None, free: list[int]
) -> tuple[float, float]:
    """(a, b) of ``vector = a state + b stored`` over the free values; b = a without ``stored``."""
    if stored is None:
        pivot = max(free, key=lambda i: abs(state[i]))
        return (factor := vector[pivot] / state[pivot]), factor
    first = max(free, key=lambda i: abs(stored[i]))
    rest = _plus(vector, -vector[first] / stored[first], stored)
    left = _plus(state, -state[first] / stored[first], stored)
    second = max((i for i in free if i != first), key=lambda i: abs(left[i]))
    a = rest[second] / left[second]
    return a, (vector[first] - a * state[first]) / stored[first]
