"""What is measured of one network: a step's cost, saturation, the sweep of loads, fixed rows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from revstep.bench.compare import ratio_interval
from revstep.bench.load.arrivals import poisson_arrivals
from revstep.bench.load.loop import open_loop, submitting
from revstep.bench.load.replies import Replies
from revstep.bench.stats.percentiles import all_supported
from revstep.engine.engine import Engine
from suites.service.asks import FEWEST, MOST, SAMPLERS, mixed_asks
from suites.service.cases import LOADS, Case
from suites.service.load import closed_loop
from suites.service.sides import ALONE, IN_FLIGHT, SIDES, SLOTS, WHOLE, InFlight, Side, on_core
from suites.service.simulation import POLICIES, saturation

BACKLOG = 2 * SLOTS  # requests that are queued or run at saturation
UNCOUNTED = 2 * SLOTS
FIXED_ROWS = "in flight, fixed rows"

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a run is made.

    Attributes:
        core: Of the servers' threads.
        generator_core: Of the load generator's.
        seed: Of requests and arrivals.
        share: Of the arrivals and rounds; a trial makes a tenth.
    """

    core: int
    generator_core: int
    seed: int
    share: float = 1.0

    def count(self, full: int, multiple: int = 1) -> int:
        """So many of the full number, and a multiple."""
        return max(1, round(full * self.share) // multiple) * multiple


def step_costs(engine: Engine, core: int, seconds: float) -> dict[int, float]:
    """Seconds of a step, network and all, by network rows; the median of several runs.

    Args:
        engine: The engine.
        core: Where it runs.
        seconds: For each number of rows.
    """
    steps = min(50, engine.spec.schedule.steps)
    run, batch = engine.resolve(n=1, sampler="ddim", steps=steps, seed=0)
    found = {}
    with on_core(core), engine.runtime.hold(SLOTS, fixed=False)() as lane:
        for rows in (rows for rows in lane.buckets if rows <= SLOTS):
            times: list[float] = []
            until = perf_counter() + seconds
            while len(times) < 3 or perf_counter() < until:
                for _ in range(rows):
                    lane.admit(run.program, batch)
                begun = perf_counter()
                done = lane.run(steps)
                times.append((perf_counter() - begun) / done)
                lane.empty()
            found[rows] = median(times[1:])
    return found


@contextlib.contextmanager
def all_sides(engine: Engine, names: Sequence[str], core: int) -> Iterator[dict[str, Side]]:
    """Servers of one engine whose threads are on a core; one of them is asked at a time."""
    trace_all(engine)
    with contextlib.ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name in names:
            with on_core(core):
                fixed = name == FIXED_ROWS
                side = InFlight(engine, deterministic=True) if fixed else SIDES[name](engine)
                stack.callback(side.close)
                ask = mixed_asks(engine.spec, 1, 0)[0]
                side.submit(ask).result()  # a service's thread begins with its first request
            sides[name] = side
        yield sides


def trace_all(engine: Engine) -> None:
    """Traces every program that is asked for: nobody pays for the first of its kind."""
    for sampler in SAMPLERS:
        for steps in range(FEWEST, MOST + 1):
            engine.resolve(n=1, sampler=sampler, steps=steps, seed=0)


def saturations(
    sides: Mapping[str, Side], engine: Engine, case: Case, setting: Setting
) -> dict[str, list[float]]:
    """Seconds a request of each side with a backlog, round by round, sides in turns."""
    count = setting.count(case.backlog, SLOTS) + BACKLOG + UNCOUNTED
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(setting.count(case.rounds)):
        asks = mixed_asks(engine.spec, count, setting.seed + number)
        for name in turn(list(sides), number):
            with on_core(setting.generator_core):
                seconds, replies = closed_loop(
                    sides[name].submit, asks, BACKLOG, uncounted=UNCOUNTED
                )
            found[name].append(seconds / replies)
    return found


def saturation_row(
    seconds: Mapping[str, list[float]], costs: Mapping[int, float], case: Case, setting: Setting
) -> Row:
    """Rates, ratios, and what the simulation says is possible."""
    draw = np.random.default_rng(setting.seed)
    steps = draw.integers(FEWEST, MOST + 1, 4096).tolist()
    limits = {name: saturation(name, steps, costs) for name in POLICIES}
    return {
        "network": case.name,
        "per_s": {name: 1.0 / median(times) for name, times in seconds.items()},
        "seconds": dict(seconds),
        "limit_per_s": limits,
        "ratios": {
            other: ratio_interval([seconds[IN_FLIGHT]], [seconds[other]])
            for other in (WHOLE, ALONE)
        },
        "limit_ratios": {other: limits[IN_FLIGHT] / limits[other] for other in (WHOLE, ALONE)},
        "backlog": BACKLOG,
    }


def load_row(
    sides: Mapping[str, Side],
    engine: Engine,
    case: Case,
    setting: Setting,
    costs: Mapping[int, float],
    load: float,
    rate: float,
) -> Row:
    """One load: latencies of every side for the same arrivals, and simulated ones.

    The arrivals come in two parts, each to an empty server; the sides take turns, in the second
    part in the other order.
    """
    full = setting.count(case.arrivals[LOADS.index(load)], 2)
    replies: dict[str, list[Replies]] = {name: [] for name in sides}
    simulated: dict[str, list[float]] = {name: [] for name in sides}
    for part in range(2):
        seed = setting.seed + 100 * part + round(load * 1000)
        asks = mixed_asks(engine.spec, full // 2, seed)
        due = poisson_arrivals(rate, full // 2, seed).tolist()
        for name in turn(list(sides), part):
            with on_core(setting.generator_core):
                replies[name].append(open_loop(submitting(sides[name].submit), asks, due))
            simulated[name] += POLICIES[name](due, [ask.steps for ask in asks], costs, SLOTS)
    return {
        "network": case.name,
        "load": load,
        "rate": rate,
        "arrivals": full,
        "sides": {name: _figures(parts) for name, parts in replies.items()},
        "simulated": {name: all_supported(times) for name, times in simulated.items()},
    }


def turn(names: list[str], number: int) -> list[str]:
    """The order of a round: it turns round."""
    return names if number % 2 == 0 else names[::-1]


def fixed_rows_row(sides: Mapping[str, Side], engine: Engine, case: Case, setting: Setting) -> Row:
    """Throughput with the same bits in any company, against without."""
    seconds = saturations(sides, engine, case, setting)
    ratio = ratio_interval([seconds[FIXED_ROWS]], [seconds[IN_FLIGHT]])
    return {"network": case.name, "seconds": seconds, "ratios": {IN_FLIGHT: ratio}}


def _figures(parts: Sequence[Replies]) -> Row:
    late = [seconds for part in parts for seconds in part.late]
    counts = Counter(reply.outcome for part in parts for reply in part.ended)
    return {
        "seconds": all_supported([seconds for part in parts for seconds in part.latencies]),
        "refused": counts["refused"],
        "unsent": counts["unsent"],
        "failed": counts["failed"] + counts["timeout"],
        "late": {"p50": median(late), "max": max(late)} if late else {},
    }
