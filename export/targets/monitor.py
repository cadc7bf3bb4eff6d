"""The progress of a plan's build, and the way to stop it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from revstep.export.progress import Progress

TOTAL = 1000


def share(progress: Progress | None, part: int, parts: int, what: str) -> Progress | None:
    """The progress of one of ``parts`` builds, as their share of one count; it names ``what``."""
    if progress is None or parts == 1:
        return progress

    def report(description: str, done: int, total: int) -> None:
        progress(f"{what}: {description}", (part * total + done) // parts, total)

    return report


class BuildMonitor:
    """Counts TensorRT's nested phases as one progress, and stops the build when it is cancelled.

    Nothing may be raised through TensorRT's frames: what the callbacks raise is kept, stops the
    build, and is raised by ``reraise``; so is a Ctrl-C inside ``interruptible``.

    Attributes:
        stopped: Whether ``cancelled`` stopped it.
    """

    def __init__(
        self, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
    ) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._phases: list[tuple[str, int, int]] = []  # name, steps done, steps; outermost first
        self._reported = -1
        self._error: BaseException | None = None
        self.stopped = False

    def start(self, phase: str, steps: int) -> None:
        """A phase begins, inside of those that have; they nest like brackets."""
        self._phases.append((phase, 0, max(steps, 1)))
        self._call(self._report)

    def step(self, phase: str, step: int) -> bool:
        """A step of a phase is done; False stops the build."""
        for i, (name, _, steps) in enumerate(self._phases):
            if name == phase:
                self._phases[i] = (name, min(step + 1, steps), steps)
                del self._phases[i + 1 :]
        self._call(self._report)
        self._call(self._poll)
        return self._error is None and not self.stopped

    def finish(self, phase: str) -> None:
        """A phase ends."""
        for i, (name, _, _) in enumerate(self._phases):
            if name == phase and i:
                del self._phases[i:]
                break

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C stops the build: Python would raise it in any callback, the logger's included."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, lambda *_: self._keep(KeyboardInterrupt()))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def reraise(self) -> None:
        """Raises what a callback raised."""
        if self._error is not None:
            raise self._error

    def interface(self, trt: Any) -> Any:
        """This monitor as an IProgressMonitor of the module ``trt``."""
        monitor = self

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
                monitor.start(phase_name, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return monitor.step(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                monitor.finish(phase_name)

        return Monitor()

    def _report(self) -> None:
        if self._progress is None or not self._phases:
            return
        done, share = 0.0, 1.0
        for _, step, steps in self._phases:
            done += share * step / steps
            share /= steps
        count = min(max(self._reported, int(done * TOTAL)), TOTAL)
        if count != self._reported:
            self._reported = count
            self._progress(self._phases[-1][0].lower(), count, TOTAL)

    def _poll(self) -> None:
        if self._cancelled is not None and self._cancelled():
            self.stopped = True

    def _call(self, action: Callable[[], None]) -> None:
        if self._error is not None:
            return
        try:
            action()
        except BaseException as error:  # kept for reraise
            self._keep(error)

    def _keep(self, error: BaseException) -> None:
        self._error = self._error or error
