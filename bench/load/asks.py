"""What is asked for: bodies of ``POST /v1/samples``, drawn by a seed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.example import example_values
from revstep.engine.errors import ArgumentError
from revstep.engine.spec.parts import Condition
from revstep.serve.http.pictures import npy_of, text_of

Body = dict[str, Any]

OUTPUT = "npy"  # of requests that name none: the least work beside the samples
NOT_HERE = {
    "stream": "a latency ends with an answer's last byte, and a stream's errors have status 200",
    "id": "it would be in use by the same request",
    "model": "--model names it",
}
MOST_BODIES = 1000
SMALL = 64  # numbers, which are sent as a list
SEEDS = 2**53  # every JSON reader has those below


@dataclasses.dataclass(frozen=True, slots=True)
class Asks:
    """Requests to draw from.

    Attributes:
        bodies: Of the requests, as JSON values.
        source: Where they are from.
    """

    bodies: Sequence[Body]
    source: str

    def drawn(self, count: int, seed: int) -> list[bytes]:
        """So many bodies as they are sent, in the order that the seed draws.

        A body without a seed of its own gets one that is drawn as well.
        """
        draw = np.random.default_rng([seed, 1])  # not the arrivals' own numbers
        which = draw.integers(len(self.bodies), size=count).tolist()
        seeds = draw.integers(SEEDS, size=count).tolist()
        texts = [json.dumps(body).encode() for body in self.bodies]
        own = ["seed" in body for body in self.bodies]
        return [
            texts[k] if own[k] else _with_seed(texts[k], seed)
            for k, seed in zip(which, seeds, strict=True)
        ]


def _with_seed(text: bytes, seed: int) -> bytes:
    rest = text[1:]
    return b'{"seed": %d%s%s' % (seed, b"" if rest == b"}" else b", ", rest)


def plain_asks(
    model: Mapping[str, Any],
    *,
    n: int,
    sampler: str | None,
    steps: int | None,
    guidance: float,
) -> Asks:
    """One body, again and again, with valid values of all conditions.

    Args:
        model: As ``/v1/models`` describes it.
        n: Samples of a request.
        sampler: A name; None: the model's own.
        steps: Of a request; None: the model's default.
        guidance: 1 is off.
    """
    body: Body = {"model": model["name"], "n": n, "output": OUTPUT}
    if sampler is not None:
        body["sampler"] = sampler
    if steps is not None:
        body["steps"] = steps
    if guidance != 1.0:
        body["guidance"] = guidance
    if values := _conditions(model["conditions"], n):
        body["conditions"] = values
    return Asks((body,), "options")


def _conditions(replies: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    conditions = [
        Condition(
            name=reply["name"],
            shape=tuple(reply["shape"]),
            dtype=reply["dtype"],
            null=reply["null"],
            limits=None if reply["min"] is None else (reply["min"], reply["max"]),
        )
        for reply in replies
    ]
    return {name: _sent(array) for name, array in example_values(conditions, n).items()}


def _sent(array: NDArray[Any]) -> Any:
    return array.tolist() if array.size <= SMALL else {"npy": text_of(npy_of(array))}


def asks_of_file(path: Path, model: str) -> Asks:
    """The bodies of a .jsonl file, one a line, each as likely as another.

    Args:
        path: The file.
        model: The model that is asked.

    Raises:
        ArgumentError: No bodies, too many, or one that can't be; the message names the line.
        OSError: It can't be read.
    """
    bodies = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ArgumentError(f"{path} holds no text; it must be JSON lines", "requests") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            bodies.append({"output": OUTPUT, **_body(f"{path}:{number}", line), "model": model})
    if not 0 < len(bodies) <= MOST_BODIES:
        raise ArgumentError(
            f"{path} holds {len(bodies)} requests; it must hold 1 to {MOST_BODIES}, one a line, "
            'such as {"steps": 20, "sampler": "ddim"}', "requests",
        )  # fmt: skip
    return Asks(bodies, str(path))


def _body(where: str, line: str) -> Body:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ArgumentError(f"{where} is no JSON: {error}", "requests") from None
    if not isinstance(found, dict):
        raise ArgumentError(f"{where} must be a JSON object, a request's body", "requests")
    for name, why in NOT_HERE.items():
        if name in found:
            raise ArgumentError(f"{where} has {name!r}: leave it out, as {why}", "requests")
    return found
