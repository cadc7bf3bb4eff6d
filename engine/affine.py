"""Symbolic vectors: the values that sampler algebra works on while it is traced.

A ``Vector`` is a linear combination of symbols: each row's state x, network output m, clipped
estimate x0 and noise z. Samplers are written with ``+ - * /`` on them, as in the papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from revstep.engine.errors import ProgramError

__all__ = ["Symbol", "Vector"]

CANCELLED = 16 * float(np.finfo(np.float64).eps)  # a sum this far below its terms is exactly 0


class Symbol(NamedTuple):
    """A basis vector: ``kind`` is x, m, 0 (the clipped x0) or z; ``row`` counts network calls."""

    row: int
    kind: str


class Vector:
    """A linear combination of symbols, with float64 coefficients."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Symbol, float]) -> None:
        self.terms = {symbol: c for symbol, c in terms.items() if c != 0.0}

    def __add__(self, other: object) -> Vector:
        if not isinstance(other, Vector):
            if other == 0:
                return self  # so that sum() works
            _refuse("adding a number to a vector")
        terms = dict(self.terms)
        for symbol, c in other.terms.items():
            a = terms.get(symbol, 0.0)
            total = a + c
            terms[symbol] = 0.0 if abs(total) <= CANCELLED * max(abs(a), abs(c)) else total
        return Vector(terms)

    __radd__ = __add__

    def __neg__(self) -> Vector:
        return self * -1.0

    def __sub__(self, other: object) -> Vector:
        return self + (-other if isinstance(other, Vector) else other)

    def __rsub__(self, other: object) -> Vector:
        return -self + other

    def __mul__(self, factor: object) -> Vector:
        if isinstance(factor, Vector):
            _refuse("multiplying two vectors")
        if not isinstance(factor, (int, float, np.integer, np.floating)):
            _refuse(f"multiplying a vector by {type(factor).__name__}")
        scale = float(factor)
        return Vector({symbol: scale * c for symbol, c in self.terms.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Vector:
        if isinstance(divisor, Vector):
            _refuse("dividing by a vector")
        if not isinstance(divisor, (int, float, np.integer, np.floating)):
            _refuse(f"dividing a vector by {type(divisor).__name__}")
        if divisor == 0:
            raise ProgramError("a sampler divided a vector by 0; take the limit instead")
        return self * (1.0 / float(divisor))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Vector:
        """Numpy scalars from the left: the same arithmetic; all else of numpy is not affine."""
        if method != "__call__" or ufunc not in (np.multiply, np.add):
            _refuse(f"np.{ufunc.__name__} of a vector")
        other = inputs[0] if inputs[1] is self else inputs[1]
        result: Vector = self * other if ufunc is np.multiply else self + other
        return result

    def __pow__(self, _: object) -> NoReturn:
        _refuse("raising a vector to a power")

    def __abs__(self) -> NoReturn:
        _refuse("the absolute value or norm of a vector")

    def __float__(self) -> NoReturn:
        _refuse("reading a vector's value")

    def __bool__(self) -> NoReturn:
        _refuse("branching on a vector's value")

    def _compare(self, _: object) -> NoReturn:
        _refuse("comparing or clipping a vector")

    __lt__ = __le__ = __gt__ = __ge__ = _compare

    def __repr__(self) -> str:
        inner = " + ".join(f"{c:.6g} {s.kind}[{s.row}]" for s, c in sorted(self.terms.items()))
        return f"Vector({inner or '0'})"

    def before(self, row: int) -> Vector:
        """The part made of symbols of rows before ``row``."""
        return Vector({symbol: c for symbol, c in self.terms.items() if symbol.row < row})

    def own(self, row: int, kind: str) -> float:
        """The coefficient of one symbol."""
        return self.terms.get(Symbol(row, kind), 0.0)


def _refuse(what: str) -> NoReturn:
    raise ProgramError(
        f"{what} is not affine: a sampler may only add vectors and scale them by numbers that are "
        "known before the run (norms, products and thresholds need the sample's values)"
    )
