"""What the processes of one run of the suite share, and what a section is given."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from revstep.bench import clock
from revstep.bench.compare import meets
from revstep.bench.rows import append_row, new_row
from revstep.engine.devices.protocol import Device
from revstep.engine.system.machine import nvidia_gpus

if TYPE_CHECKING:
    import torch

__all__ = ["FIELDS", "STATUSES", "Missing", "Run", "Suite"]

T = TypeVar("T")
STATUSES = ("measured", "ran", "skipped", "failed")
FIELDS = (
    "bench", "run", "section", "name", "status", "value", "unit", "target", "goal", "met", "peer",
    "reason", "figures", "parameters", "dry_run", "kernels", "gpu", "capability", "driver",
    "torch", "machine",
)  # fmt: skip


class Missing(Exception):  # noqa: N818  (no error: the row is skipped)
    """What a case needs and this machine lacks."""


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
        given = json.loads(text)
        return cls(**given | {name: Path(given[name]) for name in ("path", "root", "links")})

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


@dataclasses.dataclass
class Run:
    """One section's run.

    Attributes:
        section: Its name.
        suite: The suite's run: where rows go.
        device: ``cuda`` with its number, or ``cpu`` in a dry run.
        deadline: On the monotonic clock: no case starts that would pass it.
        failures: Cases that failed so far.
    """

    section: str
    suite: Suite
    device: torch.device
    deadline: float
    failures: int = 0

    @classmethod
    def bare(cls, device: torch.device, root: Path, *, dry: bool) -> Run:
        """One without rows or a deadline, for processes that only make networks."""
        return cls("", Suite(Path(os.devnull), "", root, root, dry), device, 0.0)

    @property
    def dry(self) -> bool:
        """Whether this is a dry run: tiny sizes, and no figures."""
        return self.suite.dry

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def pick(self, real: T, dry: T) -> T:
        """A size: the real one, or the one of a dry run."""
        return dry if self.dry else real

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - monotonic()

    def measured(self, name: str, value: float, unit: str, **fields: Any) -> None:
        """A row with a figure; ``fields`` as for ``Suite.add``."""
        self.suite.add(self.section, name, "measured", value=value, unit=unit, **fields)

    def differing(
        self, name: str, count: int, unit: str, reason: str | None = None, **fields: Any
    ) -> None:
        """A row that counts what should be none; one or more is a failure."""
        status = "failed" if count else "measured"
        why = (reason or f"{count} {unit}") if count else None
        self.suite.add(
            self.section, name, status, value=count, unit=unit, at_most=0, exact=True, reason=why,
            **fields,
        )  # fmt: skip
        self.failures += count > 0

    def skip(self, name: str, reason: str) -> None:
        """A row that says why something was not measured."""
        self.suite.add(self.section, name, "skipped", reason=reason)

    def fail(self, name: str, error: Exception) -> None:
        """A row of the exception that is being handled."""
        traceback.print_exc(file=sys.stderr)
        text = (str(error).strip() or "no message").splitlines()[0][:500]
        self.suite.add(self.section, name, "failed", reason=f"{type(error).__name__}: {text}")
        self.failures += 1

    def attempt(self, name: str, seconds: float, case: Callable[..., None], *given: Any) -> None:
        """Runs one case if ``seconds`` are left; what it raises or lacks becomes a row."""
        if self.left() < seconds and not self.dry:
            self.skip(name, f"time: it needs about {seconds:g} s, {max(0.0, self.left()):.0f} left")
            return
        try:
            case(self, *given)
        except Missing as why:
            self.skip(name, str(why))
        except Exception as error:
            self.fail(name, error)
        self.free()

    def call_times(self, tasks: clock.Tasks, count: int, *, flush_l2: bool = False) -> clock.Times:
        """Device seconds of calls, in turns; of a dry run the wall clock's."""
        if not self.on_gpu:
            return clock.run_times(tasks, seconds=0.0, minimum=count, maximum=count)
        flush = clock.l2_flush(self.device) if flush_l2 else None
        return clock.event_times(tasks, count, before=flush)

    def run_times(
        self, tasks: clock.Tasks, *, seconds: float, minimum: int = 5, maximum: int = 100
    ) -> clock.Times:
        """Wall seconds of whole runs, in turns; one round in a dry run."""
        limits = self.pick((minimum, maximum), (1, 1))
        return clock.run_times(
            tasks, seconds=seconds, minimum=limits[0], maximum=limits[1],
            synchronize=self.synchronize,
        )  # fmt: skip

    def free(self) -> None:
        """Gives memory back: a case never measures beside the last one's."""
        gc.collect()
        if self.on_gpu:
            import torch

            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.on_gpu:
            import torch

            torch.cuda.synchronize(self.device)

    @contextlib.contextmanager
    def in_use(self, **kernels: Any) -> Iterator[Device]:
        """The runtime's device, in use; ``kernels`` as for ``CudaDevice``."""
        from suites.torch_host import device_at

        device = device_at(self.device, **kernels)
        with device.use():
            yield device
            device.finish()
