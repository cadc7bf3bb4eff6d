"""Symbolic vectors: the values that sampler algebra works on while it is traced.

A ``Vector`` is a linear combination of symbols: each row's state x, network output m, clipped
estimate x0 and noise z, and values that were computed in earlier rows. Samplers are written with
``+ - * /`` on them, as in the papers.
"""

from __future__ import annotations

import numbers
import operator
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from revstep.engine.errors import ProgramError

TRACING = (
    "revstep.engine.program.vector",
    "revstep.engine.program.trace",
    "numpy",
)  # modules no sampler is in

CANCELLED = 16 * float(np.finfo(np.float64).eps)  # a sum this far below its terms is exactly 0


class Symbol(NamedTuple):
    """What a vector is made of; ``row`` counts network calls.

    ``kind`` is x, m, 0 (the clipped x0) or z, or v1, v2, ...: a value computed in that row.
    """

    row: int
    kind: str


class Tape:
    """What the vectors of one trace share.

    Attributes:
        row: The current network call.
        values: What later rows use of earlier ones' sums: symbol -> terms. A sum is named when a
            later row first uses it, so that expressions stay short however long the run.
    """

    def __init__(self) -> None:
        self.row = 0
        self.values: dict[Symbol, dict[Symbol, float]] = {}


class Vector:
    """A linear combination of symbols, with float64 coefficients."""

    __slots__ = ("name", "row", "tape", "terms")

    def __init__(self, terms: Mapping[Symbol, float], tape: Tape | None = None) -> None:
        self.terms = {symbol: c for symbol, c in terms.items() if c != 0.0}
        self.tape = tape
        self.row = tape.row if tape else 0
        self.name: Symbol | None = None

    @classmethod
    def _of(cls, terms: dict[Symbol, float], tape: Tape | None) -> Vector:
        """The vector of these terms, none of them 0; they are kept as they are."""
        made = cls.__new__(cls)
        made.terms, made.tape, made.row, made.name = terms, tape, tape.row if tape else 0, None
        return made

    def local(self) -> dict[Symbol, float]:
        """The terms, as the current row sees them: a sum of an earlier row is one symbol."""
        if self.tape is None or self.row == self.tape.row or len(self.terms) < 2:
            return self.terms
        if self.name is None:
            self.name = Symbol(self.row, f"v{len(self.tape.values) + 1}")
            self.tape.values[self.name] = self.terms
        return {self.name: 1.0}

    def rename(self, symbol: Symbol) -> None:
        """Calls the same value by a symbol of the current row."""
        self.terms, self.name = {symbol: 1.0}, None
        self.row = self.tape.row if self.tape else 0

    def __add__(self, other: object) -> Vector:
        if not isinstance(other, Vector):
            if number_of(other) == 0.0:
                return self  # so that sum() works
            _refuse(f"adding {_named(other)} to a vector")
        if self.tape is not other.tape and self.tape is not None and other.tape is not None:
            refuse_stranger("combines vectors of two runs")
        terms = self.local().copy()
        for symbol, c in other.local().items():
            if symbol in terms:
                a = terms[symbol]
                total = a + c
                if abs(total) < CANCELLED * max(abs(a), abs(c)) or total == 0.0:
                    del terms[symbol]
                    continue
                c = total
            terms[symbol] = c
        return Vector._of(terms, self.tape or other.tape)

    __radd__ = __add__

    def __neg__(self) -> Vector:
        return self * -1.0

    def __pos__(self) -> Vector:
        return self

    def __sub__(self, other: object) -> Vector:
        return self + (-other if isinstance(other, Vector) else other)

    def __rsub__(self, other: object) -> Vector:
        return -self + other

    def __mul__(self, factor: object) -> Vector:
        if isinstance(factor, Vector):
            _refuse("multiplying two vectors")
        if (scale := number_of(factor)) is None:
            _refuse(f"multiplying a vector by {_named(factor)}")
        scaled = {s: p for s, c in self.local().items() if (p := scale * c) != 0.0}
        return Vector._of(scaled, self.tape)

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Vector:
        if isinstance(divisor, Vector):
            _refuse("dividing by a vector")
        if (scale := number_of(divisor)) is None:
            _refuse(f"dividing a vector by {_named(divisor)}")
        if scale == 0.0:
            raise ProgramError(
                f"a sampler divided a vector by 0 ({sampler_line()}); take the limit instead, or "
                "start the grid where alpha > 0 and end it where sigma > 0"
            )
        return self * (1.0 / scale)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Vector:
        """Numpy scalars and numpy's names of the same arithmetic; its all else is not affine."""
        if method != "__call__" or ufunc not in AFFINE or options:
            _refuse(f"np.{ufunc.__name__} of a vector" + ", with options," * bool(options))
        operands = []
        for operand in inputs:  # Python's own numbers: numpy's would come back here
            number = None if isinstance(operand, Vector) else number_of(operand)
            if number is None and not isinstance(operand, Vector):
                _refuse(f"np.{ufunc.__name__} of a vector and {_named(operand)}")
            operands.append(operand if number is None else number)
        result: Vector = AFFINE[ufunc](*operands)
        return result

    @classmethod
    def __torch_function__(cls, function: Any, _: Any, args: Any = (), __: Any = None) -> NoReturn:
        _refuse(f"torch.{getattr(function, '__name__', 'a function')} of a vector")

    if not TYPE_CHECKING:  # a type checker is to see such mistakes itself

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            _refuse(f"reading .{name} of a vector")

    def __repr__(self) -> str:
        inner = " + ".join(f"{c:.6g} {s.kind}[{s.row}]" for s, c in sorted(self.terms.items()))
        return f"Vector({inner or '0'})"

    def own(self, row: int, kind: str) -> float:
        """The coefficient of one symbol."""
        return self.terms.get(Symbol(row, kind), 0.0)


# After the class: numpy's names of what a vector can do, which its operators check.
AFFINE: dict[Any, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.negative: operator.neg,
    np.positive: operator.pos,
}


REFUSED = {  # Python's other operators; not in the class, for type checkers to see mistakes too
    "multiplying two vectors": "matmul rmatmul",
    "dividing by a vector": "rtruediv",
    "raising a vector to a power": "pow",
    "raising a number to a vector": "rpow",
    "rounding a vector, or dividing it with // or %,": (
        "floordiv rfloordiv mod rmod divmod rdivmod round floor ceil trunc invert"
    ),
    "the absolute value or norm of a vector": "abs",
    "reading a vector's value": "float int complex index",
    "branching on a vector's value": "bool",
    "comparing or clipping a vector": "lt le gt ge eq ne",
    "taking a part of a vector": "getitem iter len contains",
}


def _refusal(what: str) -> Callable[..., NoReturn]:
    return lambda *_: _refuse(what)


for what, operators in REFUSED.items():
    for name in operators.split():
        setattr(Vector, f"__{name}__", _refusal(what))


class NotAVector:
    """What is easily taken for a vector: its arithmetic says which vectors it holds."""

    def refuse(self, *_: object) -> NoReturn:
        """Says so."""
        raise ProgramError(
            f"arithmetic on what run.denoise returned ({sampler_line()}); take one of its vectors: "
            ".x0, .eps or .m"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = refuse
    __truediv__ = __rtruediv__ = __neg__ = __pow__ = __array_ufunc__ = refuse


def _tracing(module: str) -> bool:
    return module in TRACING or module.startswith("numpy.")


class Place(NamedTuple):
    """A line of a sampler; as text ``file.py, line 12``."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{Path(self.file).name}, line {self.line}"


def sampler_line() -> Place:
    """Where the sampler being traced is."""
    frame = sys._getframe(1)
    while frame.f_back and _tracing(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


def refuse_stranger(what: str) -> NoReturn:
    """Refuses a vector of another run."""
    raise ProgramError(
        f"the sampler {what} ({sampler_line()}): every run has its own; begin with this run's "
        "run.x, and keep no vector outside of the function"
    )


def number_of(value: object) -> float | None:
    """A number known before the run, as a float, or None."""
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:  # what schedules give for one time
        value = value.item()
    return float(value) if isinstance(value, numbers.Real) else None


def _named(value: object) -> str:
    """What stands beside a vector in a message."""
    if isinstance(value, NotAVector):
        value.refuse()
    if number_of(value) is not None:
        return "a number"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    name = type(value).__name__
    article = "an" if name[0] in "AEIOUaeiou" else "a"
    hint = " (float() makes it a number)" if hasattr(value, "__float__") else ""
    return f"{article} {name}{hint}"


def _refuse(what: str) -> NoReturn:
    raise ProgramError(
        f"{what} is not affine ({sampler_line()}): a sampler may only add vectors and scale them "
        "by numbers that are known before the run (norms, products and thresholds need the "
        "sample's values)"
    )
