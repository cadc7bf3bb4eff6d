"""What a section is given: the device, the rows, and the clock that ends it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from revstep.engine.devices.cuda import Queue
from suites.gpu.rows import RowFile

if TYPE_CHECKING:
    import torch

__all__ = ["Run"]

T = TypeVar("T")


@dataclasses.dataclass
class Run:
    """One section's run.

    Attributes:
        section: Its name.
        rows: Where its rows go.
        device: ``cuda`` with its number, or ``cpu`` in a dry run.
        deadline: On the monotonic clock: no case starts that would pass it.
        root: The checkout.
        links: The folder to import revstep from, for further processes.
        failures: Cases that failed so far.
    """

    section: str
    rows: RowFile
    device: torch.device
    deadline: float
    root: Path
    links: Path
    failures: int = 0

    @classmethod
    def bare(cls, device: torch.device, root: Path, *, dry: bool) -> Run:
        """One without rows or a deadline, for processes that only make networks."""
        return cls("", RowFile(Path(os.devnull), "", dry=dry), device, 0.0, root, root)

    @property
    def dry(self) -> bool:
        """Whether this is a dry run: tiny sizes, and no figures."""
        return self.rows.dry

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
        """A row with a figure; ``fields`` as for ``RowFile.add``."""
        self.rows.add(self.section, name, "measured", value=value, unit=unit, **fields)

    def differing(
        self, name: str, count: int, unit: str, reason: str | None = None, **fields: Any
    ) -> None:
        """A row that counts what should be none; one or more is a failure."""
        status = "failed" if count else "measured"
        why = (reason or f"{count} {unit}") if count else None
        self.rows.add(
            self.section, name, status, value=count, unit=unit, at_most=0, exact=True, reason=why,
            **fields,
        )  # fmt: skip
        self.failures += count > 0

    def skip(self, name: str, reason: str) -> None:
        """A row that says why something was not measured."""
        self.rows.add(self.section, name, "skipped", reason=reason)

    def attempt(self, name: str, seconds: float, case: Callable[..., None], *given: Any) -> None:
        """Runs one case if ``seconds`` are left; what it raises becomes a row."""
        if self.left() < seconds and not self.dry:
            self.skip(name, f"time: it needs about {seconds:g} s, {max(0.0, self.left()):.0f} left")
            return
        try:
            case(self, *given)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            text = (str(error).strip() or "no message").splitlines()[0][:500]
            self.rows.add(self.section, name, "failed", reason=f"{type(error).__name__}: {text}")
            self.failures += 1
        self.free()

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
    def queue(self) -> Iterator[Queue]:
        """A queue of the device, as torch's current stream."""
        queue = Queue(self.device)
        with queue.use():
            yield queue
            queue.finish()
