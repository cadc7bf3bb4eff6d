"""A job's progress as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from revstep.engine.service.job import Progress
from revstep.engine.service.stream import ProgressStream
from revstep.serve.http.errors import body_of
from revstep.serve.http.pictures import text_of

ALIVE_S = 15.0  # proxies end connections on which nothing comes


def event(name: str, data: dict[str, Any]) -> bytes:
    """One event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def events(
    stream: ProgressStream,
    *,
    preview: Callable[[Progress], bytes | None],
    result: Callable[[Progress], dict[str, Any]],
) -> AsyncIterator[bytes]:
    """Started, progress, then result or error; who leaves before it cancels the job.

    Args:
        stream: The job's progress.
        preview: The PNG of a progress, if it has one; may take long.
        result: The last event's data; may take long.
    """
    job = stream.job
    news: asyncio.Future[Progress] | None = None
    try:
        yield event("started", {"id": job.id, "seeds": job.seeds.tolist()})
        while True:
            news = asyncio.ensure_future(anext(stream))
            while not (await asyncio.wait({news}, timeout=ALIVE_S))[0]:
                yield b": still here\n\n"
            progress = news.result()
            if progress.samples is not None:
                yield event("result", await run_in_threadpool(result, progress))
                return
            picture = None if progress.x0 is None else await run_in_threadpool(preview, progress)
            yield event("progress", _progress(progress, picture))
    except Exception as error:
        yield event("error", body_of(error))
    finally:
        if news is not None:
            news.cancel()
        job.cancel()


def _progress(progress: Progress, picture: bytes | None) -> dict[str, Any]:
    return {
        "done": progress.done,
        "total": progress.total,
        "step": progress.step,
        "steps": progress.steps,
        "first": progress.first,
        "png": None if picture is None else text_of(picture),
    }
