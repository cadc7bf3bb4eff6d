"""One way to run a network on a CPU, and what a search found out about it."""

from __future__ import annotations

import dataclasses
from statistics import median
from typing import Any

from revstep.export.targets.cpu.timing import Block

DEFAULT = "onnxruntime"  # what runs where nothing was measured

CHOSEN, SLOWER, TIED, FASTER, NOT_TRIED = "chosen", "slower", "tied", "faster", "not tried"
WRONG, FAILED, CRASHED, HUNG, MISSING = "wrong", "failed", "crashed", "hung", "missing"
BAD = (WRONG, FAILED, CRASHED, HUNG, MISSING)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run the network.

    Attributes:
        runtime: A backend's name.
        precision: ``fp32``, or ``bf16`` (the fp32 graph, with products in bfloat16).
        rewrites: Names of graph rewrites, in their order; empty: the graph as it was exported.
        threads: Threads inside an operator.
    """

    runtime: str = DEFAULT
    precision: str = "fp32"
    rewrites: tuple[str, ...] = ()
    threads: int

    @property
    def simplicity(self) -> tuple[int, bool, bool, int]:
        """Smaller is simpler: of two that are as fast, the simpler one is taken."""
        plain = self.precision == "fp32"
        return len(self.rewrites), self.runtime != DEFAULT, not plain, self.threads

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        rewrites = f", rewritten: {', '.join(self.rewrites)}" if self.rewrites else ""
        return f"{self.runtime} {self.precision}, {threads}{rewrites}"


class Refused(Exception):  # noqa: N818  (a finding, not a mistake)
    """A candidate that doesn't count.

    Args:
        status: One of ``BAD``.
        reason: Why, in a sentence.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclasses.dataclass(slots=True)
class Trial:
    """What is known of a candidate.

    Attributes:
        candidate: The candidate.
        status: Why it takes no part any more; None: it does.
        reason: The same in a sentence.
        version: Its runtime's version.
        parity: The figures of the checks that it has passed.
        proven: Whether it has passed all.
        blocks: Rows -> the blocks of calls that were timed, by round; 0 is its first.
    """

    candidate: Candidate
    status: str | None = None
    reason: str = ""
    version: str | None = None
    parity: dict[str, Any] = dataclasses.field(default_factory=dict)
    proven: bool = False
    blocks: dict[int, dict[int, Block]] = dataclasses.field(default_factory=dict)

    def best(self, rows: int) -> float:
        """Seconds of a call of so many rows, in the block that was disturbed the least."""
        return min(block.median for block in self.blocks[rows].values())

    def median(self, rows: int) -> float:
        """Seconds of a call of so many rows: the median of its blocks' medians."""
        return median(block.median for block in self.blocks[rows].values())

    def refuse(self, refused: Refused) -> None:
        """It is out, for that reason."""
        self.status, self.reason, self.proven = refused.status, refused.reason, False

    def to_dict(self, rows: int, status: str, relative: float | None = None) -> dict[str, Any]:
        """All figures for a number of rows, as plain JSON values.

        Args:
            rows: The number.
            status: What became of it there.
            relative: Its time over the winner's, in the rounds in common; None: too few.
        """
        c, blocks = self.candidate, list(self.blocks.get(rows, {}).values())
        values: dict[str, Any] = {
            "runtime": c.runtime,
            "version": self.version,
            "precision": c.precision,
            "rewrites": list(c.rewrites),
            "threads": c.threads,
            "status": status,
        }
        if blocks:
            values |= {
                "ms": self.median(rows) * 1e3,
                "low_ms": min(b.low for b in blocks) * 1e3,
                "high_ms": median(b.high for b in blocks) * 1e3,
                "rounds": len(blocks),
                "calls": sum(b.calls for b in blocks),
                "relative": relative,
            }
        if self.parity:
            values["parity"] = self.parity
        if self.reason:
            values["reason"] = self.reason
        return values
