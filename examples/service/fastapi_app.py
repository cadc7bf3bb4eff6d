"""A FastAPI app of one's own around a service: BUNDLE=... uvicorn fastapi_app:app."""

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Response

import revstep
from revstep.errors import ArgumentError, QueueFullError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The service lives as long as the app does."""
    with revstep.Service(revstep.load(os.environ["BUNDLE"])) as app.state.service:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/clothes/{label}.png")
async def clothes(label: int, seed: int | None = None, steps: int = 20) -> Response:
    """One picture; requests that come at the same time share network calls."""
    request = {"steps": steps, "seed": seed, "conditions": {"class_labels": label}}
    try:
        samples = await app.state.service.sample(1, **request)
    except ArgumentError as error:
        raise HTTPException(422, str(error)) from error
    except QueueFullError as error:
        wait = {"Retry-After": f"{error.retry_after_s:.0f}"}
        raise HTTPException(503, str(error), wait) from error
    png = io.BytesIO()
    samples.pil()[0].save(png, "png")
    return Response(png.getvalue(), media_type="image/png")
