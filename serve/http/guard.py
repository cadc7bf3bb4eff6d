"""What stands before the app: the bearer token, the body's size, headers of every answer."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from revstep.serve.http.errors import plain

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
    """

    def __init__(self, app: App, *, token: str | None, body_bytes: int) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._most = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or lets through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, self._counted(receive), send_guarded)
        except _TooLargeError:
            await self._too_large()(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Any | None:
        headers = dict(scope["headers"])
        path = scope["path"]
        if self._token is not None and path.startswith(GUARDED) and path not in OPEN:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(given.strip(), self._token)
            if kind.lower() != b"bearer" or not right:
                text = "send the server's token, as Authorization: Bearer TOKEN"
                return plain(401, "Unauthorized", text, **{"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most:
            return self._too_large()
        return None

    def _too_large(self) -> Any:
        text = f"the body has more than the {self._most} bytes that are allowed; send less"
        return plain(413, "TooLarge", text, Connection="close")

    def _counted(self, receive: Receive) -> Receive:
        """Bodies without a length are counted as they come."""
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                if got > self._most:
                    raise _TooLargeError
            return message

        return counted


class _TooLargeError(Exception):
    """The body has grown beyond the limit."""
