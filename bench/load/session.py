"""Loads of one service one after the other, each a row; and the search among their rates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from time import perf_counter, sleep
from typing import Any

from revstep.bench.load.asks import Asks
from revstep.bench.load.client import Client
from revstep.bench.load.load import MOST_RATE, Load, figures_of, run_load
from revstep.bench.load.search import highest_rate
from revstep.bench.load.served import Model, await_idle
from revstep.bench.load.verdict import Limit, Verdict
from revstep.bench.load.warm_up import Alone
from revstep.bench.rows import new_row
from revstep.bench.stats.percentiles import samples_needed
from revstep.engine.errors import ArgumentError

Row = dict[str, Any]
MODEL_FIELDS = ("name", "shape", "slots", "sampler", "default_steps", "limits")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A service that is loaded, and what is asked of it.

    Attributes:
        client: Of the service.
        model: As ``/v1/models`` describes it.
        asks: The requests.
        alone: How long one takes.
        about: What rows say of the service beside its model.
        limit: Of the latencies; None: none.
        deadline_s: For the goodput; None: none.
        told: Called with each row as it comes.
        clock: Gives seconds.
        rest: Waits for seconds.
    """

    client: Client
    model: Model
    asks: Asks
    alone: Alone
    about: Mapping[str, Any]
    limit: Limit | None
    deadline_s: float | None
    told: Callable[[Row], object]
    clock: Callable[[], float] = perf_counter
    rest: Callable[[float], object] = sleep

    def run(self, load: Load, *, to_its_end: bool = True) -> Row:
        """The row of one load, which begins on an empty queue.

        Args:
            load: It.
            to_its_end: Whether it goes on when the limit is surely missed.

        Raises:
            KeyboardInterrupt: It was interrupted; what was measured is told before.
        """
        idle = await_idle(self.client, self.model["name"])
        replies = run_load(
            self.client.send, self.asks.drawn, load, None if to_its_end else self.limit, self.clock,
            self.rest,
        )  # fmt: skip
        if replies.stopped != "ended":
            self.client.abort()
        figures = figures_of(replies, load, self.limit, self.deadline_s)
        row = new_row("serve", {"part": "load", **self._service(), "idle_before": idle, **figures})
        if replies.ended or replies.stopped == "missed":
            self.told(row)
        if replies.stopped == "interrupted":
            raise KeyboardInterrupt
        return row

    def search(self, seconds: float, seed: int, answer_s: float) -> Row:
        """The row of the highest rate at which the limit holds, after those of all loads.

        Args:
            seconds: Of each load.
            seed: Of arrivals and requests.
            answer_s: Of waiting at a load's end.

        Raises:
            ArgumentError: So short loads can't support the percentile at any rate that it serves.
            KeyboardInterrupt: As ``run``.
        """
        assert self.limit is not None
        least = self.least_rate(seconds)
        tried: list[Row] = []

        def judge(rate: float) -> Verdict:
            load = Load(rate=rate, seconds=seconds, seed=seed, answer_s=answer_s)
            row = self.run(load, to_its_end=False)
            tried.append({"rate": rate, "verdict": row["verdict"]})
            verdict: Verdict = row["verdict"]
            return verdict

        found = highest_rate(judge, 1.0 / self.alone.median_s, least, MOST_RATE)
        figures = {"limit": dataclasses.asdict(self.limit), "found_per_s": found, "least": least,
                   "most": MOST_RATE, "seconds": seconds, "seed": seed, "tried": tried}  # fmt: skip
        row = new_row("serve", {"part": "search", **self._service(), **figures})
        self.told(row)
        return row

    def least_rate(self, seconds: float) -> float:
        """The lowest rate at which loads of that length support the limit's percentile.

        Raises:
            ArgumentError: It is above what as many requests at once as there are slots could reach.
        """
        assert self.limit is not None
        needed = samples_needed(self.limit.percent)
        least, most = needed / seconds, self.alone.most_per_s * self.model["slots"]
        if least > most:
            takes = math.ceil(needed / most)
            raise ArgumentError(
                f"p{self.limit.percent:g} takes {needed} requests, {least:.3g} a second in "
                f"{seconds:g} s; {self.model['slots']} at once of {1e3 / self.alone.most_per_s:.0f}"
                f" ms each are {most:.3g} a second at most: --seconds {takes}", "seconds",
            )  # fmt: skip
        return least

    def _service(self) -> Row:
        asked = {k: v for k, v in self.asks.bodies[0].items() if k not in ("conditions", "inputs")}
        return {
            "service": {
                **self.about,
                "model": {name: self.model.get(name) for name in MODEL_FIELDS},
                "connections": self.client.connections,
                "timeout_s": self.client.timeout_s,
            },
            "requests": {
                "source": self.asks.source, "bodies": len(self.asks.bodies), "first": asked
            },
            "alone": self.alone.to_dict(),
        }  # fmt: skip
