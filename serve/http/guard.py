"""What stands before the app: the bearer token, the body's size, headers of every answer."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

from revstep.serve.http.errors import plain

PORT = re.compile(r":\d*$")
log = logging.getLogger("revstep")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/readyz")  # a probe has no token
GUARDED = ("/v1/", "/metrics", "/openapi.json")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'",
    ),
)


class Guard:
    """Refuses requests without the token, and bodies that are too large.

    Args:
        app: What stands behind it.
        token: What ``Authorization: Bearer`` must say; None: nothing is asked for.
        body_bytes: Bytes of a body.
        allowed_hosts: What a Host header may say, without the port; None: anything.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str | None,
        body_bytes: int,
        allowed_hosts: Sequence[str] | None = None,
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._most = body_bytes
        self._hosts = None if allowed_hosts is None else set(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or lets through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, self._counted(receive), send_guarded)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise  # half an answer: the connection ends
            text = "the server failed in a way that nobody foresaw; its log says how"
            await plain(500, "InternalError", text)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Any | None:
        headers = dict(scope["headers"])
        path = scope["path"]
        if self._hosts is not None:
            host = _without_port(headers.get(b"host", b"").decode("latin-1"))
            if host not in self._hosts:
                allowed = ", ".join(sorted(self._hosts))
                text = f"this server is not {host!r}; it answers as {allowed}"
                return plain(400, "WrongHost", text)
        if self._token is not None and path.startswith(GUARDED) and path not in OPEN:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(given.strip(), self._token)
            if kind.lower() != b"bearer" or not right:
                text = "send the server's token, as Authorization: Bearer TOKEN"
                return plain(401, "Unauthorized", text, headers={"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most:
            error = TooLarge(self._most)
            return plain(413, error.kind, error.detail, headers=error.headers)
        return None

    def _counted(self, receive: Receive) -> Receive:
        """Bodies without a length are counted as they come."""
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                if got > self._most:
                    raise TooLarge(self._most)
            return message

        return counted


def _without_port(host: str) -> str:
    return host.rsplit(":", 1)[0].lower() if PORT.search(host) else host.lower()


class TooLarge(HTTPException):
    """The body has more bytes than allowed; of the kind that FastAPI lets through."""

    kind = "TooLarge"

    def __init__(self, most: int) -> None:
        text = f"the body has more than the {most} bytes that are allowed; send less"
        super().__init__(413, text, {"Connection": "close"})
