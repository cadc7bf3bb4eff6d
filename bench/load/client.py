"""An HTTP client that sends without waiting: a thread and a kept connection for each request."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import SplitResult, urlsplit

from revstep.bench.load.replies import Outcome, Reply
from revstep.engine.errors import ArgumentError

SAMPLES = "/v1/samples"
CONNECTIONS = 512  # more than a service lets wait and run, so that it refuses before this is out
IDLE_S = 1.0  # a kept connection that is older is made anew: servers close theirs after a while
LOOK_S = 30.0  # of questions beside the load
QUIET_S = 30.0  # that the last requests may take to end
REFUSED = (429, 503)
LATE = 504
OURS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS)  # this machine's limits


class Client:
    """A client of one server. Thread-safe.

    Args:
        url: ``http://host:port``, and a path where the server lies below one.
        token: What ``Authorization: Bearer`` says; None: nothing.
        connections: Requests at once; one more is not sent.
        timeout_s: Of a request, from its sending.

    Attributes:
        url, connections, timeout_s: As given.

    Raises:
        ArgumentError: No URL of HTTP.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        connections: int = CONNECTIONS,
        timeout_s: float = 60.0,
    ) -> None:
        self._at = parsed(url)
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", "User-Agent": "revstep-bench"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self.timeout_s, self.connections = timeout_s, connections
        self._room = threading.BoundedSemaphore(connections)
        self._threads = ThreadPoolExecutor(connections, "revstep-bench")
        self._lock = threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._used: set[http.client.HTTPConnection] = set()

    def send(self, body: bytes, reply: Reply) -> None:
        """Posts a request for samples in a thread of its own, as ``open_loop`` wants it."""
        if not self._room.acquire(blocking=False):
            reply.ends("unsent", f"all {self.connections} connections were in use")
            return
        try:
            self._threads.submit(self._send, body, reply)
        except RuntimeError as error:  # no more threads: the request stays queued for an old one
            reply.ends("unsent", str(error))

    def _send(self, body: bytes, reply: Reply) -> None:
        try:
            if reply.goes():
                reply.ends(*self._outcome(body))
        finally:
            self._room.release()

    def _outcome(self, body: bytes) -> tuple[Outcome, str]:
        try:
            status, answer = self.ask("POST", SAMPLES, body)
        except TimeoutError:
            return "timeout", f"no answer in {self.timeout_s:g} s"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in OURS:
                return "unsent", str(error)
            return "failed", type(error).__name__
        if status == 200:
            return "answered", ""
        why = f"{status} {error_of(answer)[0]}".strip()
        return ("refused" if status in REFUSED else "timeout" if status == LATE else "failed"), why

    def ask(
        self, method: str, path: str, body: bytes | None = None, timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        """Status and body of an answer, read to its last byte.

        Raises:
            OSError: No connection, or one that broke; ``TimeoutError`` where time is over.
            HTTPException: No HTTP.
        """
        with self._connection(timeout_s or self.timeout_s) as connection:
            connection.request(method, self._at.path.rstrip("/") + path, body, self._headers)
            with connection.getresponse() as response:
                return response.status, response.read()

    @contextlib.contextmanager
    def _connection(self, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
        """A kept connection, or a new one; kept again where all went well."""
        connection = self._kept() or self._new()
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        with self._lock:
            self._used.add(connection)
        well = False
        try:
            yield connection
            well = True
        finally:
            with self._lock:
                self._used.discard(connection)
                if keep := well and connection.sock is not None:
                    self._idle.append((connection, time.monotonic()))
            if not keep:
                connection.close()

    def _kept(self) -> http.client.HTTPConnection | None:
        with self._lock:
            if not self._idle:
                return None
            connection, since = self._idle.pop()  # the newest
            if time.monotonic() - since < IDLE_S:
                return connection
            old, self._idle = [connection, *(each for each, _ in self._idle)], []
        for each in old:
            each.close()
        return None

    def _new(self) -> http.client.HTTPConnection:
        kind = (
            http.client.HTTPSConnection
            if self._at.scheme == "https"
            else http.client.HTTPConnection
        )
        return kind(self._at.hostname or "", self._at.port)

    def abort(self) -> None:
        """Breaks off what is still awaited, and waits until none of it is in use."""
        with self._lock:
            used = list(self._used)
        for connection in used:
            if (sock := connection.sock) is not None:
                _shut(sock)
        until = time.monotonic() + QUIET_S
        while self._used and time.monotonic() < until:
            time.sleep(0.01)

    def close(self) -> None:
        """Ends all connections and threads."""
        self.abort()
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended
        sock.shutdown(socket.SHUT_RDWR)


def parsed(url: str) -> SplitResult:
    """The parts of a server's URL.

    Raises:
        ArgumentError: Not one of HTTP, or with a query.
    """
    try:
        found = urlsplit(url)
        _ = found.port
    except ValueError as error:
        raise ArgumentError(f"{url!r} is no URL: {error}", "target") from None
    if found.scheme not in ("http", "https") or not found.hostname or found.query or found.fragment:
        raise ArgumentError(
            f"{url!r} is no server's URL; it must be such as http://127.0.0.1:8000", "target"
        )
    return found


def error_of(answer: bytes) -> tuple[str, str]:
    """(type, message) of an error as revstep's server answers it; empty where it isn't one."""
    try:
        found: Any = json.loads(answer)["error"]
        return str(found["type"]), str(found["message"])
    except (ValueError, TypeError, KeyError):
        return "", ""
