"""The rows of one run of the suite, and what its processes share."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

from revstep.bench.compare import meets
from revstep.bench.rows import append_row, new_row
from revstep.engine.system.machine import nvidia_gpus

STATUSES = ("measured", "ran", "skipped", "failed")
FIELDS = (
    "bench", "version", "run", "section", "name", "status", "value", "unit", "target", "goal",
    "met", "peer", "reason", "figures", "parameters", "dry_run", "kernels", "gpu", "capability",
    "driver", "torch", "machine",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Suite:
    """One run of the suite.

    Attributes:
        path: The .jsonl file; rows are added at its end, each on the disk before the next.
        started: When it began, which names the run in its rows.
        root: The checkout.
        links: The folder to import revstep from, for further processes.
        dry: Whether it is a dry run: what was measured is then left out of every row.
        commit: The commit, where the checkout is a copy without git's data.
    """

    path: Path
    started: str
    root: Path
    links: Path
    dry: bool = False
    commit: str | None = None

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Suite:
        """From another process."""
        fields = json.loads(text)
        return cls(**fields | {name: Path(fields[name]) for name in ("path", "root", "links")})

    def add(
        self,
        section: str,
        name: str,
        status: str,
        *,
        value: float | None = None,
        unit: str | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        peer: str | None = None,
        reason: str | None = None,
        figures: dict[str, Any] | None = None,
        parameters: dict[str, Any] | None = None,
        exact: bool = False,
    ) -> None:
        """Writes one row.

        Args:
            section: The section.
            name: What was measured.
            status: One of ``STATUSES``; ``measured`` becomes ``ran`` in a dry run.
            value: The figure.
            unit: Its unit.
            at_least: Target, where more is better.
            at_most: Target, where less is better.
            peer: What it is compared with.
            reason: Why it was skipped or failed.
            figures: Further measured figures.
            parameters: How it was measured.
            exact: The value is no time or size (a count of differing bits): a dry run keeps it.

        Raises:
            ValueError: An unknown status, or a figure that is not finite.
        """
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}; allowed: {', '.join(STATUSES)}")
        figures = figures or {}
        numbers = (value, *(v for v in figures.values() if isinstance(v, float)))
        if status == "measured" and not all(v is not None and math.isfinite(v) for v in numbers):
            raise ValueError(f"{section}: {name} is {value} {figures}; a figure must be finite")
        if self.dry and not exact:
            value, figures = None, dict.fromkeys(figures)
        target = at_most if at_least is None else at_least
        row = {  # as FIELDS
            "run": self.started,
            "section": section,
            "name": name,
            "status": "ran" if self.dry and status == "measured" else status,
            "value": value,
            "unit": unit,
            "target": target,
            "goal": None if target is None else "at most" if at_least is None else "at least",
            "met": meets(value, at_least=at_least, at_most=at_most),
            "peer": peer,
            "reason": reason,
            "figures": figures,
            "parameters": parameters or {},
            "dry_run": self.dry,
            **_device(),
        }
        made = new_row("gpu_suite", row, self.root)
        made["machine"]["commit"] = made["machine"]["commit"] or self.commit
        append_row(self.path, made)


@cache
def _device() -> dict[str, str | None]:
    """The step's kernels, and the GPU that torch uses where it uses one, else the first."""
    from revstep.kernels import backend

    first = next(iter(nvidia_gpus()), None)
    found: dict[str, str | None] = {
        "kernels": backend(),
        "gpu": first.name if first else None,
        "capability": first.compute_capability if first else None,
        "driver": first.driver if first else None,
        "torch": None,
    }
    torch = sys.modules.get("torch")
    if torch is None:
        return found
    found["torch"] = str(torch.__version__)  # with the CUDA that it was built for
    if torch.cuda.is_initialized():
        major, minor = torch.cuda.get_device_capability()
        found |= {"gpu": torch.cuda.get_device_name(), "capability": f"{major}.{minor}"}
    return found
