"""A candidate's own process: it opens, checks and times one network, as its parent asks.

A request and its answer are each a line of JSON, on stdin and, after a word, on a copy of stdout:
what libraries print goes to stderr. It ends with its parent: at the end of stdin, whatever it does.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.backends.registry import BACKENDS, Wanted
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import ParityError
from revstep.export.parity.bounds import Bounds, finding, resolve_bounds, wider
from revstep.export.parity.check import check_forward, check_run
from revstep.export.parity.parts import encoded_parity
from revstep.export.targets.cpu.part import PartCandidate, encoder_given

REPLY = "revstep: "  # begins a line that is an answer
ANY_ERROR = 1e30  # a forward bound that refuses infinity alone
FEWEST = 4  # calls of a block, the warm-up among them,
LONG = 1.0  # unless they take longer than so many seconds
HIGH = 0.9  # of the calls of a block are faster than its ``high``


class Worker:
    """One bundle, and one network of it once it is open: the denoiser, or one beside it.

    Args:
        bundle: The bundle's directory, whose hashes the parent has checked.
    """

    def __init__(self, bundle: str) -> None:
        self._bundle = Bundle.open(bundle, verify=False, compiled=False)
        self._parity = self._bundle.parity()
        self._calls: dict[int, Callable[[], object]] = {}
        self._denoiser: Denoiser | None = None
        self._limit: Bounds | None = None
        self._bound: Callable[[int], Callable[[], object]] = self._bound_denoiser

    def open(
        self,
        runtime: str,
        precision: str,
        threads: int,
        graph: str | None,
        bounds: dict[str, float] | None,
    ) -> dict[str, Any]:
        """Opens the network, and checks its single calls: version and figures.

        In bf16 a single call's error is reported and not judged, unless ``bounds`` has one.
        """
        opened = BACKENDS[runtime].on_cpu
        assert opened is not None
        wanted = Wanted(
            self._bundle, precision, threads=threads, graph=None if graph is None else Path(graph)
        )
        self._denoiser = denoiser = opened(wanted)
        judged = precision == "fp32" or "forward" in (bounds or {})
        self._limit = limit = resolve_bounds(precision, bounds, self._bundle.manifest)
        if not judged:
            limit = dataclasses.replace(limit, forward=ANY_ERROR)
        figures = check_forward(denoiser, self._parity, limit)
        if not judged:
            figures = {name: {"error": found["error"]} for name, found in figures.items()}
        return {"version": str(denoiser.describe()["version"]), "parity": figures}

    def open_part(
        self, runtime: str, precision: str, threads: int, key: str, given: str
    ) -> dict[str, Any]:
        """Opens a network beside the denoiser and checks it: version, rows of a call, figures.

        What it gives for the reference's inputs goes into the file ``given``.
        """
        part = PartCandidate(self._bundle, self._parity, key, runtime, precision, threads)
        figures = part.check(Path(given))
        self._bound = part.bound
        return {"version": part.version, "rows": part.rows, "parity": figures}

    def prove(self) -> dict[str, Any]:
        """Checks a whole run: its figures."""
        assert self._denoiser is not None
        assert self._limit is not None
        return check_run(self._denoiser, self._parity, self._limit)

    def time(self, rows: int, seconds: float) -> dict[str, Any]:
        """Times calls of so many rows, about that long; the first of several is a warm-up."""
        call = self._calls.get(rows)
        if call is None:
            call = self._calls[rows] = self._bound(rows)
        times: list[float] = []
        begun = perf_counter()
        while _more(len(times), perf_counter() - begun, seconds):
            before = perf_counter()
            call()
            times.append(perf_counter() - before)
        whole = perf_counter() - begun
        times = sorted(times[1:] or times)
        return {
            "median": median(times), "low": times[0], "high": times[int(HIGH * len(times))],
            "calls": len(times), "seconds": whole,
        }  # fmt: skip

    def prove_encoded(self, encoded: dict[str, str], half: bool) -> dict[str, Any]:
        """Checks a whole run with the conditions in ``encoded``: encoder -> file; its figures."""
        assert self._denoiser is not None
        assert self._limit is not None
        runs = {name: encoder_given(Path(file)) for name, file in encoded.items()}
        parity = encoded_parity(self._parity, self._bundle.spec, runs)
        limit = wider(self._limit, resolve_bounds("bf16", None)) if half else self._limit
        return check_run(self._denoiser, parity, limit)

    def _bound_denoiser(self, rows: int) -> Callable[[], None]:
        """The network on buffers with the reference's inputs, over and over; called once."""
        assert self._denoiser is not None
        spec, parity = self._bundle.spec, self._parity
        buffers = NetworkBuffers.allocate(spec, rows)
        taken = np.arange(rows) % len(parity["t"])
        buffers.x[:], buffers.t[:] = parity["x"][taken], parity["t"][taken]
        if buffers.second is not None:
            buffers.second[:] = parity["second"][taken]
        for name, values in buffers.conditions.items():
            values[:] = parity[f"cond.{name}"][taken]
        call = self._denoiser.bind(buffers)
        call()  # what a runtime compiles or plans at first
        return call


def _more(calls: int, passed: float, seconds: float) -> bool:
    """Whether a block goes on."""
    return passed < seconds or calls == 0 or (calls < FEWEST and passed < LONG)


def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """``{"ok": ...}``, or ``{"refused": status, "reason": ...}``."""
    name = request.pop("do")
    try:
        return {"ok": getattr(worker, name)(**request)}
    except ParityError as error:
        return {"refused": "wrong", "reason": finding(error)}
    except Exception as error:  # whatever a runtime raises
        return {"refused": "failed", "reason": str(error) or type(error).__name__}


def main() -> None:
    """Serves requests until stdin ends; the first one names the bundle."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    worker: Worker | None = None
    while True:
        request = requests.get()
        worker = worker or Worker(request.pop("bundle"))
        replies.write(f"{REPLY}{json.dumps(answer(worker, request))}\n")
        replies.flush()


def _read(requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)  # the parent is gone, or has enough: no matter what the network is doing
