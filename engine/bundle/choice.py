"""What won on a CPU: how it runs, where it was measured, and all that it was measured against."""

from __future__ import annotations

import dataclasses
from typing import Any

from revstep.engine.spec.fields import fields_from

MEASURED = ("chosen", "tied", "slower", "faster")
"""A candidate's ``status`` where it has passed the checks that it came to: those far behind come to
one forward pass alone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CpuChoice:
    """The choice of ``revstep compile --target cpu`` for one number of rows.

    Attributes:
        processor: Where it was measured, as ``processor()`` names it.
        threads: Threads inside an operator.
        rewrites: The graph rewrites that paid, in their order; empty: the exported graph.
        seconds: Of one network call: the median.
        candidates: Everything that was tried for these rows, as JSON values: runtime, version,
            precision, rewrites, threads, its times and parity, and what became of it (``status``).
    """

    processor: str
    threads: int
    rewrites: tuple[str, ...]
    seconds: float
    candidates: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain JSON values."""
        lists = {"rewrites": list(self.rewrites), "candidates": list(self.candidates)}
        return {**dataclasses.asdict(self), **lists}


def cpu_choice(value: object, what: str) -> CpuChoice:
    """The choice that a manifest's ``value`` describes.

    Raises:
        TypeError, ValueError: It describes none.
    """
    fields = fields_from(CpuChoice, value, what)
    choice = CpuChoice(
        **{**fields, **{name: tuple(fields[name]) for name in ("rewrites", "candidates")}}
    )
    if choice.threads < 1:
        raise ValueError(f"{what} has {choice.threads} threads; there is at least 1")
    if choice.seconds <= 0:
        raise ValueError(f"{what} has {choice.seconds:g} seconds; a call takes more than 0")
    return choice
