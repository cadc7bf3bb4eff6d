"""One JSON row a result: its fields, and the file that they are appended to."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from revstep.bench.machine import machine_info
from revstep.engine.system.machine import nvidia_gpus

__all__ = ["FIELDS", "STATUSES", "RowFile", "read_rows"]

SUITE = 1  # of the rows' format
STATUSES = ("measured", "ran", "skipped", "failed")
FIELDS = (
    "suite", "run", "section", "name", "status", "value", "unit", "target", "goal", "met", "peer",
    "reason", "figures", "parameters", "dry_run", "gpu", "capability", "driver", "torch", "triton",
    "python", "versions", "kernels", "commit", "time",
)  # fmt: skip


class RowFile:
    """Rows of one run of the suite, each on the disk before the next is made.

    Args:
        path: The .jsonl file; rows are added at its end.
        run: Which run they are of: the time of its start.
        dry: Whether it is a dry run: what was measured is then left out of every row.
        root: The checkout, for the commit.
        commit: The commit, where the checkout is a copy without git's data.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        *,
        dry: bool,
        root: Path | None = None,
        commit: str | None = None,
    ) -> None:
        self.path, self.run, self.dry = path, run, dry
        self._root = root
        self.commit = commit

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
    ) -> dict[str, Any]:
        """Writes one row and returns it.

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
        found = {k: v for k, v in (figures or {}).items() if isinstance(v, float)}
        if status == "measured" and not all(
            v is not None and math.isfinite(v) for v in (value, *found.values())
        ):
            raise ValueError(f"{section}: {name} is {value} {found}; a figure must be finite")
        target = at_most if at_least is None else at_least
        met = None
        if value is not None and target is not None:
            met = bool(value >= target if at_least is not None else value <= target)
        if self.dry and not exact:
            value, met = None, None
            figures = dict.fromkeys(figures or {})
        row = {
            "suite": SUITE,
            "run": self.run,
            "section": section,
            "name": name,
            "status": "ran" if self.dry and status == "measured" else status,
            "value": value,
            "unit": unit,
            "target": target,
            "goal": None if target is None else "at least" if at_least is not None else "at most",
            "met": met,
            "peer": peer,
            "reason": reason,
            "figures": figures or {},
            "parameters": parameters or {},
            "dry_run": self.dry,
            **_machine(self._root, self.commit),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        assert tuple(row) == FIELDS
        with self.path.open("a", encoding="utf-8") as file:  # one write a line, then on the disk
            file.write(json.dumps(row) + "\n")
        return row


@cache
def _machine(root: Path | None, commit: str | None) -> dict[str, Any]:
    from revstep.kernels import backend

    with contextlib.nullcontext() if root is None else contextlib.chdir(root):
        info = machine_info()  # of the current directory's checkout
    gpu = _gpu()
    versions: dict[str, str] = info["versions"]
    return {
        **gpu,
        "torch": _torch_version() or versions.get("torch"),
        "triton": versions.get("triton"),
        "python": info["python"],
        "versions": versions,
        "kernels": backend(),
        "commit": info["commit"] or commit,
    }


def _gpu() -> dict[str, str | None]:
    """The GPU that torch uses where it uses one already, else the first that there is."""
    first = next(iter(nvidia_gpus()), None)
    found: dict[str, str | None] = {
        "gpu": first.name if first else None,
        "capability": first.compute_capability if first else None,
        "driver": first.driver if first else None,
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        major, minor = torch.cuda.get_device_capability()
        found |= {"gpu": torch.cuda.get_device_name(), "capability": f"{major}.{minor}"}
    return found


def _torch_version() -> str | None:
    """With the CUDA it was built for (``+cu130``), which the package's version may lack."""
    torch = sys.modules.get("torch")
    return None if torch is None else str(torch.__version__)


def read_rows(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of files that the suite wrote.

    Raises:
        ValueError: A line is no row; the message names file and line.
    """
    rows = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number} is no JSON: {error}") from None
            if not isinstance(row, dict) or set(FIELDS) - set(row):
                raise ValueError(f"{path}:{number} is no row of the GPU suite")
            rows.append(row)
    return rows
