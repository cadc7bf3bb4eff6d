"""What is measured: a cell of the grid, and the grid."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from revstep.engine.checks import wrong_type
from revstep.engine.errors import ArgumentError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One configuration of whole runs.

    Attributes:
        backend, device, precision, threads: As ``load`` takes them.
        batch: Samples a run.
        sampler: A sampler's name; None: the bundle's own.
        options: Of the sampler.
        steps: Of the time grid; None: 20, or what a given grid has.
        guidance: Classifier-free guidance; other than 1 doubles the network's rows.
        more: Further arguments of ``Engine.sample``, as JSON values: compat, grid, clip, final.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: str | None = None
    threads: int | None = None
    batch: int = 1
    sampler: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int | None = None
    guidance: float = 1.0
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.backend, self.precision, self.sampler, self._steps(), f"batch {self.batch}"]
        return " ".join(str(part) for part in parts if part not in (None, "auto"))

    def _steps(self) -> str | None:
        return None if self.steps is None else f"{self.steps} steps"

    @property
    def opened(self) -> tuple[object, ...]:
        """What an engine is opened with: cells of the same share one."""
        return tuple(self.load_arguments.values())

    @property
    def rows(self) -> int:
        """Of a network call: guided samples take two each."""
        return self.batch if self.guidance == 1.0 else 2 * self.batch

    @property
    def load_arguments(self) -> dict[str, Any]:
        """Of ``load``."""
        return {
            "backend": self.backend, "device": self.device, "precision": self.precision,
            "threads": self.threads,
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **dataclasses.asdict(self), "options": dict(self.options), "more": dict(self.more),
        }  # fmt: skip


AXES = ("backend", "precision", "sampler", "steps", "batch")


def grid(base: Cell, **axes: Sequence[Any]) -> list[Cell]:
    """Every combination of the axes, those of one engine together.

    Args:
        base: Gives the other fields.
        **axes: Values of fields in ``AXES``; an empty one leaves the base's.
    """
    if others := set(axes) - set(AXES):
        raise wrong_type(sorted(others), "axes", f"among {', '.join(AXES)}")
    named = [(name, list(dict.fromkeys(axes[name]))) for name in AXES if axes.get(name)]
    products = itertools.product(*(values for _, values in named))
    names = [name for name, _ in named]
    return [dataclasses.replace(base, **dict(zip(names, each, strict=True))) for each in products]


def check_total(
    cells: Sequence[Cell],
    seconds: float,
    total: float | None,
    more: float,
    *,
    times: int = 1,
    estimate: str = "",
) -> None:
    """Refuses a grid that takes longer than it may.

    Args:
        cells: The grid.
        seconds: Of a measurement, at most.
        total: Seconds of all; None: any.
        more: Seconds beside them: cold starts.
        times: Measurements of one cell.
        estimate: Why it may take more or less than that; empty: it takes no more.

    Raises:
        ArgumentError: It says how long it would take; or ``total`` is no time.
    """
    if total is None:
        return
    if not total > 0.0:
        raise ArgumentError(f"--total {total:g} must be above 0 seconds", "total")
    needed = len(cells) * times * seconds + more
    if needed <= total:
        return
    each = max(0.0, total - more) / len(cells) / times
    fits = f", --seconds {each:.3g}" if each >= 0.1 else ""
    up_to, said = ("about", f" (an estimate: {estimate})") if estimate else ("up to", "")
    raise ArgumentError(
        f"{len(cells)} cells of {up_to} {times * seconds:g} s and {more:g} s of cold starts take "
        f"{up_to} {needed:.0f} s{said}, more than --total {total:g}: ask for fewer cells{fits}, or "
        f"--total {math.ceil(needed)}",
        "total",
    )
