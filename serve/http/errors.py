"""Which error is which HTTP status, and its body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import CancelledError
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from revstep.engine.errors import (
    ArgumentError,
    CapacityError,
    DeadlineError,
    ProgramError,
    QueueFullError,
    RevstepError,
    ServiceClosedError,
)
from revstep.serve.http.schema import ErrorReply

LONGEST = 64  # of a name that is quoted
RETRY_S = 1.0  # of a server that drains: another one may take it at once


class NotFound(RevstepError):  # noqa: N818  (named as HTTP names it)
    """There is no such model or request."""


class Conflict(RevstepError):  # noqa: N818
    """The id is another request's."""


class NotReady(RevstepError):  # noqa: N818
    """The models are still loading."""


STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (CancelledError, 409),
    (NotReady, 503),
    (QueueFullError, 503),
    (ServiceClosedError, 503),
    (CapacityError, 503),
    (DeadlineError, 504),
    (ProgramError, 422),
    (ArgumentError, 422),
    (ValueError, 422),
    (TypeError, 422),
)
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorReply, "description": "No JSON, nested too deep, or a foreign Host"},
    401: {"model": ErrorReply, "description": "No token, or a wrong one"},
    413: {"model": ErrorReply, "description": "The body is too large"},
    422: {"model": ErrorReply, "description": "A field that can't be"},
    503: {"model": ErrorReply, "description": "Not ready, full or draining; see Retry-After"},
}
OF_SAMPLES: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorReply, "description": "No such model"},
    409: {"model": ErrorReply, "description": "Cancelled, or the id is in use"},
    500: {"model": ErrorReply, "description": "The network failed"},
    504: {"model": ErrorReply, "description": "The deadline passed"},
}


def status_of(error: BaseException) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def body_of(error: BaseException) -> dict[str, Any]:
    """The JSON body of an error."""
    if isinstance(error, CancelledError):
        text, name = "the request was cancelled", "Cancelled"
    else:
        text, name = str(error) or type(error).__name__, type(error).__name__
    argument = getattr(error, "argument", "") or None
    return {"error": {"type": name, "message": text, "argument": argument}}


def answer(error: BaseException) -> JSONResponse:
    """The whole answer to an error."""
    status, headers = status_of(error), {}
    if status == 503:
        wait = getattr(error, "retry_after_s", RETRY_S)
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    return JSONResponse(body_of(error), status, headers)


def plain(
    status: int,
    kind: str,
    message: str,
    argument: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer to what is no exception of revstep's."""
    body = {"error": {"type": kind, "message": message, "argument": argument}}
    return JSONResponse(body, status, headers)


def add_handlers(app: FastAPI) -> None:
    """Has every error of the app answered in one form."""

    async def of_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = error.errors()
        where = [str(part)[:LONGEST] for part in found[0]["loc"] if part != "body"]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        name = where[0] if where and where[0].isidentifier() else None
        said = str(found[0]["msg"]).removeprefix("Value error, ")
        message = f"{'.'.join(where) or 'the body'}: {said}{more}; see /openapi.json"
        return plain(422, "ValidationError", message, name)

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = getattr(error, "kind", HTTPStatus(error.status_code).phrase.replace(" ", ""))
        return plain(error.status_code, kind, str(error.detail), headers=error.headers)

    async def of_revstep(request: Request, error: Exception) -> JSONResponse:
        return answer(error)

    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    for kind in (RevstepError, ArgumentError, CancelledError):
        app.add_exception_handler(kind, of_revstep)
