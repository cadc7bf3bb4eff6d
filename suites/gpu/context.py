"""What a section gets: the device, the rows, and the clock that ends it."""

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

from revstep.bench import clock
from revstep.engine.devices.protocol import Device
from suites.gpu.rows import Suite

if TYPE_CHECKING:
    import torch


T = TypeVar("T")


class Missing(Exception):  # noqa: N818  (no error: the row is skipped)
    """What a case needs and this machine lacks."""


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
        """A row with the reason why something was not measured."""
        self.suite.add(self.section, name, "skipped", reason=reason)

    def fail(self, name: str, error: Exception) -> None:
        """A row of the exception that is being handled."""
        traceback.print_exc(file=sys.stderr)
        text = (str(error).strip() or "no message").splitlines()[0][:500]
        self.suite.add(self.section, name, "failed", reason=f"{type(error).__name__}: {text}")
        self.failures += 1

    def attempt(
        self, name: str, seconds: float, case: Callable[..., None], *arguments: Any
    ) -> None:
        """Runs one case if ``seconds`` are left; what it raises or lacks becomes a row."""
        if self.left() < seconds and not self.dry:
            self.skip(name, f"time: it needs about {seconds:g} s, {max(0.0, self.left()):.0f} left")
            return
        try:
            case(self, *arguments)
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
            device.mark().wait()
