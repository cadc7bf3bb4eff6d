"""``ProgressStream``: a job's progress for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType

from revstep.engine.service.job import Job, Progress


class ProgressStream(AsyncIterator[Progress]):
    """A job's progress, ``async for`` by ``async for``; what ``Service.stream`` gives.

    A slow reader gets the newest only; the last one has the samples. Who leaves before it cancels
    the job::

        async for progress in service.stream(4, steps=50, previews=10):
            show(progress.done / progress.total, progress.x0)

    Args:
        job: The job; its progress from now on.

    Attributes:
        job: The job.

    Raises:
        RuntimeError: No event loop runs in this thread.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._over = False
        self._seen: Progress | None = None
        news, loop = asyncio.Event(), asyncio.get_running_loop()
        self._news = news

        def tell() -> None:  # holds no stream: one that nobody has any more cancels its job
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(news.set)

        job.listen(tell)

    def __aiter__(self) -> ProgressStream:
        return self

    async def __anext__(self) -> Progress:
        job = self.job
        while not self._over:
            latest, ended = job.latest, job.done()
            if ended:
                self._over = True
                return job.last_progress()
            if latest is not self._seen and latest is not None:
                self._seen = latest
                return latest
            try:
                await self._news.wait()
            except asyncio.CancelledError:
                await self.aclose()
                raise
            self._news.clear()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancels the job, unless it has ended."""
        self._over = True
        self.job.cancel()

    async def __aenter__(self) -> ProgressStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self.job.cancel()
