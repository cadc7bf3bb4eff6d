"""A figure, a group of them that is measured together, and what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class CannotMeasure(Exception):  # noqa: N818  (a check that is skipped, and says why)
    """What a group needs is not here; the text says what, and how to get it."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number that must not grow.

    Attributes:
        name: Within its group.
        unit: What is counted.
        share: Growth that is allowed, as a share of the committed value.
        plus: Growth that is allowed beside it, in the unit.
    """

    name: str
    unit: str
    share: float = 0.0
    plus: float = 0.0

    def limit(self, committed: float) -> float:
        """The largest value that passes."""
        return committed * (1.0 + self.share) + self.plus

    @property
    def allowed(self) -> str:
        """The allowed growth, for people."""
        parts = [f"{100 * self.share:.3g} %"] if self.share else []
        if self.plus or not parts:
            parts.append(f"{self.plus:g}")
        return " + ".join(parts)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a group's measurement gave.

    Attributes:
        values: figure -> value.
        names: figure -> what was counted, where that has names: a growth is told by them.
    """

    values: Mapping[str, float]
    names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Place:
    """What is measured.

    Attributes:
        checkout: The checkout, with the suites.
        tree: The folder on the path that holds the package ``revstep``.
        wheel: A built wheel, or None.
    """

    checkout: Path
    tree: Path
    wheel: Path | None = None


@dataclasses.dataclass(frozen=True)
class Group:
    """Figures that are measured together.

    Attributes:
        name: The group's.
        about: What it is, in one line.
        figures: The figures.
        versions: What the values hold for; they are compared where these are equal.
        measure: Gives every figure. Raises CannotMeasure.
        record: The command that records new values, where it isn't this package's.
        committed: Reads the committed records of the checkout, where they lie elsewhere.
    """

    name: str
    about: str
    figures: tuple[Figure, ...]
    versions: Callable[[Place], dict[str, str]]
    measure: Callable[[Place], Found]
    record: str = ""
    committed: Callable[[Path], list[dict[str, Any]]] | None = None

    @property
    def command(self) -> str:
        """What records new values on purpose."""
        return self.record or f"python -m suites.regressions --record --only {self.name}"
