"""Requests before the load: each is checked by the server, and one alone is timed."""

from __future__ import annotations

import dataclasses
import http.client
import json
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from revstep.bench.load.asks import Asks
from revstep.bench.load.client import SAMPLES, Client, error_of
from revstep.engine.errors import ArgumentError, BackendError

LEAST = 8  # that are timed
SECONDS = 2.0  # of them, about


@dataclasses.dataclass(frozen=True, slots=True)
class Alone:
    """Requests one after the other, with nobody else's.

    Attributes:
        seconds: Of each that was timed.
        requests: Those before, too.
    """

    seconds: tuple[float, ...]
    requests: int

    @property
    def median_s(self) -> float:
        """Of a request."""
        return median(self.seconds)

    @property
    def most_per_s(self) -> float:
        """What the fastest of them says of a service that runs one request at a time."""
        return 1.0 / min(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "seconds": list(self.seconds), "requests": self.requests, "median_s": self.median_s
        }  # fmt: skip


def warm_up(client: Client, asks: Asks, clock: Callable[[], float] = perf_counter) -> Alone:
    """Sends every body once, so that the server has its sampler; then times some of them.

    Raises:
        ArgumentError: The server refuses a body: its message, and which body it is.
        BackendError: The server can't answer.
    """
    for number, body in enumerate(asks.bodies, 1):
        _answered(client, json.dumps(body).encode(), number, asks)
    times: list[float] = []
    begun = clock()
    for number, text in enumerate(asks.drawn(1000, 0), 1):
        before = clock()
        _answered(client, text, number, asks)
        times.append(clock() - before)
        if len(times) >= LEAST and clock() - begun > SECONDS:
            break
    return Alone(tuple(times), len(asks.bodies))


def _answered(client: Client, text: bytes, number: int, asks: Asks) -> None:
    try:
        status, answer = client.ask("POST", SAMPLES, text)
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise BackendError(f"{client.url} did not answer a request alone: {why}") from error
    if status == 200:
        return
    message = error_of(answer)[1] or answer[:200].decode("utf-8", "replace")
    which = f"request {number} of {asks.source}" if len(asks.bodies) > 1 else "the request"
    said = f"{client.url} answers {which} with {status}: {message}"
    if 400 <= status < 500:
        raise ArgumentError(said, "requests")
    raise BackendError(said)
