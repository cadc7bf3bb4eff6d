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
MOST_SAID = 4  # of what is wrong with one field
OBJECTS = (
    "sampler_options",
    "conditions",
    "null_conditions",
    "inputs",
    "null_inputs",
)  # fields with entries
NO_OBJECT = ("missing", "model_attributes_type")  # no body; one of another kind, or another type
RETRY_S = 1.0  # of a server that drains: another one may take it at once


class NotFound(RevstepError):  # noqa: N818  (named as HTTP names it)
    """There is no such model or request.

    Args:
        message: As for ``RevstepError``.
        argument: The field that it is about.

    Attributes:
        argument: As given.
    """

    def __init__(self, message: str, argument: str = "") -> None:
        super().__init__(message)
        self.argument = argument


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
    400: {"model": ErrorReply, "description": "No text, nested too deep, or a foreign Host"},
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


def _field(error: Mapping[str, Any]) -> list[str]:
    """Which field an error of pydantic's is about, and which entry of an object.

    What follows are numbers in lists, and pydantic's names of the types that a field may have.
    """
    where = [str(part)[:LONGEST] for part in error["loc"] if part != "body"]
    return where[: 2 if where and where[0] in OBJECTS else 1]


def add_handlers(app: FastAPI) -> None:
    """Has every error of the app answered in one form."""

    async def of_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = error.errors()
        first, where = found[0], _field(found[0])
        if first["type"] == "json_invalid":
            why, place = first["ctx"]["error"], first["loc"][-1]
            message = f"the body is no JSON: {why}, at character {place}"
            return plain(422, "ValidationError", message)
        if not where and first["type"] in NO_OBJECT:
            message = "the body must be a JSON object, sent with Content-Type: application/json"
            return plain(422, "ValidationError", f"{message}; see /openapi.json")
        # of what may be one thing or another there is an error for each
        here = [str(one["msg"]).removeprefix("Value error, ") for one in found
                if _field(one) == where]  # fmt: skip
        more = f" (and {len(found) - len(here)} more)" if len(found) > len(here) else ""
        said = "; or: ".join(list(dict.fromkeys(here))[:MOST_SAID])
        name = where[0] if where and where[0].isidentifier() else None
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
