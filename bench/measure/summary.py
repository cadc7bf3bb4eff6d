"""What a row says of its times: percentiles, spread, noise, outliers; of steps, their parts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from revstep.bench.stats.convergence import relative_noise
from revstep.bench.stats.outliers import count_outliers
from revstep.bench.stats.percentiles import (
    SHOWN,
    all_supported,
    highest_supported,
    unsupported,
)
from revstep.engine.errors import ArgumentError
from revstep.engine.runtime.watch import Timing


def summary_of(times: Sequence[float], network_calls: int, batch: int) -> dict[str, Any]:
    """The summary of runs.

    Args:
        times: Seconds of each run.
        network_calls: Of a run.
        batch: Samples of a run.

    Returns:
        ``runs``; ``median_s``, ``mean_s``, ``step_s`` (the median over its network calls),
        ``samples_per_s``; ``percentiles`` with their 99 % intervals, those that so many runs
        support; ``highest``, the highest that they do; ``more_runs`` that the others take;
        ``spread`` (the interquartile range over the median), ``noise`` (of the median) and
        ``outliers``.
    """
    found = distribution_of(times)
    middle = found["median_s"]
    return {**found, "step_s": middle / network_calls, "samples_per_s": batch / middle}


def distribution_of(times: Sequence[float]) -> dict[str, Any]:
    """What ``summary_of`` says of seconds, whatever they are of: all but its rates."""
    middle = median(times)
    low, high = np.quantile(times, [0.25, 0.75])
    return {
        "runs": len(times),
        "median_s": middle,
        "mean_s": fmean(times),
        "percentiles": all_supported(times, SHOWN),
        "highest": highest_supported(times),
        "more_runs": unsupported(len(times), SHOWN),
        "spread": float(high - low) / middle,
        "noise": _finite(relative_noise(times)),
        "outliers": count_outliers(times),
    }


@dataclasses.dataclass(frozen=True, slots=True)
class LookedInto:
    """A run with a clock inside, which is not counted among the others.

    Attributes:
        wall_s: Of the run.
        timing: Of its steps.
    """

    wall_s: float
    timing: Timing

    @property
    def step_s(self) -> float:
        """Of the run, over its network calls."""
        return self.wall_s / len(self.timing.network_ns)


def split_of(runs: Sequence[LookedInto], step_s: float, *, on_gpu: bool) -> dict[str, Any]:
    """Where the time of a step goes: medians over runs that were looked into, one at least.

    Args:
        runs: The runs.
        step_s: Of a step in the other runs, which a GPU may replay from a graph.
        on_gpu: Whether the network runs on a GPU.

    Returns:
        Seconds: ``network_s`` and ``sampler_s`` of the device; ``launch_s``, the host's to enqueue
        both call by call (on a CPU the calls do the work: 0); ``gap_s``, what is left of a whole
        run's step: checks, the initial noise, the result, what the host does between (below 0 where
        a graph is faster than its calls one by one; on a CPU at most that of the runs themselves).
        ``steps``: percentiles of single steps, network and sampler together. ``runs``: how many.
    """
    timings = [run.timing for run in runs]
    network = median(fmean(t.network_ns) for t in timings) / 1e9
    sampler = median(fmean(t.outside_ns) for t in timings) / 1e9
    gap = step_s - network - sampler
    if not on_gpu:
        within = median(
            run.step_s - (fmean(run.timing.network_ns) + fmean(run.timing.outside_ns)) / 1e9
            for run in runs
        )
        # a long network's noise drowns the first; looking into a short run takes longer than it
        gap = gap if 0.0 < gap < within else within
    steps = [
        (inside + outside) / 1e9
        for t in timings
        for inside, outside in zip(t.network_ns, t.outside_ns, strict=True)
    ]
    return {
        "network_s": network,
        "sampler_s": sampler,
        "launch_s": median(fmean(t.host_ns) for t in timings) / 1e9 if on_gpu else 0.0,
        "gap_s": gap,
        "steps": all_supported(steps, SHOWN),
        "runs": len(runs),
    }


def check_price(price: float | None) -> None:
    """Refuses a price an hour that is none.

    Raises:
        ArgumentError: NaN, infinite, or below 0.
    """
    if price is not None and not 0.0 <= price < math.inf:
        raise ArgumentError(
            f"price={price} must be a finite number of at least 0, such as 1.20: what an hour of "
            "this machine costs",
            "price",
        )


def cost_of(summary: dict[str, Any], price: float | None) -> dict[str, float] | None:
    """What a thousand samples cost at a price an hour, on a machine that does nothing else."""
    if price is None:
        return None
    per_thousand = 1000.0 / summary["samples_per_s"] / 3600.0 * price
    return {"price_per_hour": price, "per_thousand_samples": per_thousand}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
