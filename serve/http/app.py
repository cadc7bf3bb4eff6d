"""The HTTP app: samples, their progress, models, health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from revstep import __version__
from revstep.engine.runtime.samples import Samples
from revstep.engine.service.job import Job, Progress
from revstep.engine.service.service import Service
from revstep.engine.service.stream import ProgressStream
from revstep.serve.http.errors import OF_SAMPLES, RESPONSES, add_handlers, plain
from revstep.serve.http.events import events
from revstep.serve.http.guard import OPEN, Guard
from revstep.serve.http.limits import Limits
from revstep.serve.http.metrics import metrics_text
from revstep.serve.http.models import Load, Models, state_is_picture, value_range_of
from revstep.serve.http.pictures import base64_of, npy_of, png_of, text_of
from revstep.serve.http.schema import (
    ErrorReply,
    HealthReply,
    ModelsReply,
    SampleReply,
    SampleRequest,
)

PAGE = Path(__file__).parent / "page"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
TOLD_SEEDS = 128  # in a header: proxies and clients refuse long ones
EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["started", "progress", "result", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
SAMPLES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": SampleReply,
        "description": "The samples, as `output` says; events with `stream`",
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/x-npy": {"schema": {"type": "string", "format": "binary"}},
            "text/event-stream": {"schema": EVENT},
        },
    }
}


def create_app(
    services: Mapping[str, Service] | Load,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    page: bool = True,
    allowed_hosts: Sequence[str] | None = None,
) -> FastAPI:
    """An ASGI app over services; it closes them when it ends.

    Args:
        services: By the name that clients use; or what makes them, called in a thread when the app
            starts: until it returns, ``/readyz`` and requests are answered with 503.
        limits: What one request may ask for; None: ``Limits()``.
        token: What ``Authorization: Bearer`` must say under ``/v1``, ``/metrics`` and
            ``/openapi.json``; None: nothing is asked for.
        page: Whether ``/`` is a web page.
        allowed_hosts: What a request's Host may be; None: anything. A server on loopback should
            allow its own names alone, so that a page of elsewhere can't reach it by a name that
            points here.
    """
    limits = limits or Limits()
    models = Models(services, limits)
    app = FastAPI(
        title="revstep",
        version=__version__,
        description="Samples of diffusion models; requests share every network call.",
        lifespan=_lifespan(models),
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses=RESPONSES,
    )
    app.state.models = models
    add_handlers(app)
    _add_samples(app, models)
    _add_state(app, models)
    if token is not None:
        _describe_token(app)
    if page and (PAGE / "index.html").is_file():
        _add_page(app)
    app.add_middleware(
        Guard, token=token, body_bytes=limits.body_bytes, allowed_hosts=allowed_hosts
    )
    return app


def _describe_token(app: FastAPI) -> None:
    """Has the OpenAPI document say which paths ask for the token, as FastAPI extends it."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        found = describe()
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in OPEN:
            for operation in found["paths"][path].values():
                operation["security"] = []
        return found

    app.openapi = openapi  # type: ignore[method-assign]


def _lifespan(models: Models) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.ensure_future(asyncio.to_thread(models.load))
        yield
        await loading
        await asyncio.to_thread(models.close)

    return lifespan


def _add_samples(app: FastAPI, models: Models) -> None:
    @app.post("/v1/samples", response_model=None, responses=SAMPLES | OF_SAMPLES)
    async def sample(body: SampleRequest, request: Request) -> Response:
        """Draw samples; they share network calls with all other requests."""
        name, service, job = await run_in_threadpool(models.submit, body)
        if body.stream:
            return _streamed(body, name, service, job)
        try:
            samples = await _finished(job, request)
        finally:
            job.cancel()  # does nothing to one that has ended
        return await run_in_threadpool(_reply, body, name, service, job, samples)

    @app.delete(
        "/v1/samples/{id}",
        status_code=204,
        responses={404: {"model": ErrorReply, "description": "It has ended, or never was"}},
    )
    async def cancel(id: str) -> Response:
        """Cancel a request, queued or running."""
        models.cancel(id)
        return Response(status_code=204)


def _streamed(body: SampleRequest, name: str, service: Service, job: Job) -> Response:
    value_range = value_range_of(service, decode=body.decode)
    shown = state_is_picture(service)

    def preview(progress: Progress) -> bytes | None:
        return png_of(progress.x0, value_range) if shown and progress.x0 is not None else None

    def result(progress: Progress) -> dict[str, Any]:
        assert progress.samples is not None
        samples = progress.samples
        found = _json(name, job, samples).model_dump()
        picture = body.output == "png" or (body.previews > 0 and shown)
        png = png_of(samples.numpy(), value_range) if picture else None
        return {**found, "png": None if png is None else text_of(png)}

    stream = ProgressStream(job)
    return StreamingResponse(
        events(stream, preview=preview, result=result),
        media_type="text/event-stream",
        headers={"X-Revstep-Id": job.id, "X-Accel-Buffering": "no"},
    )


async def _finished(job: Job, request: Request) -> Samples:
    """The job's samples; a client that leaves cancels it."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(ended.set)

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    job.add_done_callback(tell)
    waits = {asyncio.ensure_future(ended.wait()), asyncio.ensure_future(gone())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if not job.done():
        job.cancel()
    return job.result(0)


def _reply(
    body: SampleRequest, name: str, service: Service, job: Job, samples: Samples
) -> Response:
    headers = {"X-Revstep-Id": job.id}
    if len(samples.seeds) <= TOLD_SEEDS:
        headers["X-Revstep-Seeds"] = ",".join(map(str, samples.seeds))
    values = samples.numpy()
    if body.output == "png":
        value_range = value_range_of(service, decode=body.decode)
        return Response(png_of(values, value_range), media_type="image/png", headers=headers)
    if body.output == "npy":
        return Response(npy_of(values), media_type="application/x-npy", headers=headers)
    return JSONResponse(_json(name, job, samples).model_dump(), headers=headers)


def _json(name: str, job: Job, samples: Samples) -> SampleReply:
    values, timing = samples.numpy(), job.timing
    return SampleReply(
        id=job.id,
        model=name,
        seeds=samples.seeds.tolist(),
        shape=list(values.shape),
        data=base64_of(values),
        calls=samples.calls,
        queued_ms=0.0 if timing is None else 1e3 * timing.queued_s,
        run_ms=0.0 if timing is None else 1e3 * timing.run_s,
    )


def _add_state(app: FastAPI, models: Models) -> None:
    text = metrics_text(models.services)

    @app.get("/v1/models")
    async def list_models() -> ModelsReply:
        """The models, their conditions and limits."""
        return ModelsReply(models=models.describe())

    @app.get("/v1/stats")
    async def stats() -> dict[str, dict[str, Any]]:
        """Queue, slots, times and outcomes of each model."""
        return {name: one.stats().to_dict() for name, one in models.services().items()}

    @app.get("/healthz")
    async def health() -> HealthReply:
        """Whether the process lives."""
        return HealthReply(status="ok")

    @app.get("/readyz", response_model=HealthReply)
    async def ready() -> Any:
        """Whether requests are taken: after the warm-up, and not while the server drains."""
        if (problem := models.problem) is not None:
            return plain(503, "NotReady", problem, headers={"Retry-After": "1"})
        return HealthReply(status="ready")

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(text(), media_type=PROMETHEUS)


def _add_page(app: FastAPI) -> None:
    """The page's files; a mount at / would take the wrong methods of other paths too."""
    for file in sorted(PAGE.iterdir()):
        path = "/" if file.name == "index.html" else f"/{file.name}"
        app.add_api_route(path, _sends(file), methods=["GET", "HEAD"], include_in_schema=False)


def _sends(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(file)

    return send
