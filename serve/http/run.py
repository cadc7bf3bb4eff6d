"""A server process: uvicorn, which finishes what it has when it is told to end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import monotonic
from types import FrameType

import uvicorn
from fastapi import FastAPI

from revstep.serve.http.models import Models

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANSWERS_S = 5  # that the last answers may take to be sent


class _Server(uvicorn.Server):
    """uvicorn's, which at the first signal goes on answering until its requests are done.

    New ones get 503 meanwhile, as /readyz does: who sends them learns it from an answer, not from
    a connection that is cut.
    """

    def __init__(self, config: uvicorn.Config, models: Models, grace_s: float) -> None:
        super().__init__(config)
        self._models, self._grace_s = models, grace_s
        self._ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drains; a second signal ends what is left, a third one the process."""
        super().handle_exit(sig, frame)
        if self._ends_at is None:
            self._models.drain()
            self._ends_at, self.should_exit = monotonic() + self._grace_s, False
        elif self._ends_at > 0.0:
            self._ends_at, self.should_exit = 0.0, False

    async def on_tick(self, counter: int) -> bool:
        """Ends once nothing is left to do, or the time is over."""
        ends_at = self._ends_at
        if ends_at is not None and (self._models.idle or monotonic() >= ends_at):
            await asyncio.to_thread(self._models.close)  # what is left gets 503
            self.should_exit = True
        return await super().on_tick(counter)


def run(
    app: FastAPI,
    *,
    host: str,
    port: int,
    grace_s: int,
    started: Callable[[str], None],
    log_level: str = "warning",
) -> None:
    """Serves until SIGTERM or SIGINT; then finishes what it has, within ``grace_s`` seconds.

    Args:
        app: Of ``create_app``.
        host: The address; ``127.0.0.1`` is seen from this machine alone.
        port: The port; 0: a free one.
        grace_s: Seconds that running requests get at the end.
        started: Called with the server's URL once it listens.
        log_level: uvicorn's.

    Raises:
        OSError: The address can't be listened on.
    """
    config = uvicorn.Config(
        app, host=host, port=port, log_level=log_level, access_log=False, lifespan="on",
        timeout_graceful_shutdown=ANSWERS_S, server_header=False,
    )  # fmt: skip
    listening = _listening(host, port, config.backlog)
    shown = f"[{host}]" if ":" in host else host
    started(f"http://{shown}:{listening.getsockname()[1]}")
    server = _Server(config, app.state.models, grace_s)
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()


def check_address(host: str, port: int) -> None:
    """Refuses an address that can't be listened on, before networks are loaded.

    Raises:
        OSError: As ``run``.
    """
    _listening(host, port, 1).close()


def _listening(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)


def allowed_hosts(host: str) -> list[str] | None:
    """What a Host header may say: on loopback this machine's own names; else anything (None)."""
    return ["localhost", "127.0.0.1", "[::1]"] if host in LOOPBACK else None
