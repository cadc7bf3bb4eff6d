"""What was to be reached, and whether the rows say that it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from revstep.bench.compare import meets
from suites.service.sides import ALONE, IN_FLIGHT, WHOLE

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure of a row, and its limit.

    Attributes:
        what: In words.
        part: Of the row.
        row: Its name.
        figure: Takes it from the row; None: the row has none.
        at_least: More is better.
        at_most: Less is better.
        unit: Of the figure as it is shown; empty: times.
        limit: Takes what the simulation says is possible; None: nothing is said.
    """

    what: str
    part: str
    row: str
    figure: Callable[[Row], float | None]
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    limit: Callable[[Row], float | None] = lambda row: None

    def shown(self, value: float) -> str:
        """A figure with its unit."""
        return f"{value:.3g} {self.unit}" if self.unit else f"{value:.2f}x"

    @property
    def asked(self) -> str:
        """The limit for people."""
        value = self.at_most if self.at_least is None else self.at_least
        return f"{'≤' if self.at_least is None else '≥'} {self.shown(float(value or 0.0))}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A target beside what was measured.

    Attributes:
        target: The target.
        value: In the target's unit; None: there is none.
        possible: What the simulation gives; None: nothing is said.
    """

    target: Target
    value: float | None
    possible: float | None

    @property
    def met(self) -> bool | None:
        """Whether the figure meets the target; None without one."""
        return meets(self.value, at_least=self.target.at_least, at_most=self.target.at_most)


def _throughput(network: str, over: str, least: float) -> Target:
    return Target(
        f"{network}: throughput at saturation over {over}", "saturation", network,
        lambda row: float(row["ratios"][over]["ratio"]), at_least=least,
        limit=lambda row: float(row["limit_ratios"][over]),
    )  # fmt: skip


def latency_ratio(row: Row, source: str, percentile: str, over: str) -> float | None:
    """In-flight's percentile over another side's; None where one isn't supported, or no reply.

    Args:
        row: Of the part ``load``.
        source: ``sides`` or ``simulated``.
        percentile: ``p50``, ``p90`` or ``p99``.
        over: The other side.
    """
    ours, theirs = (row[source][name] for name in (IN_FLIGHT, over))
    if source == "sides":
        ours, theirs = ours["seconds"], theirs["seconds"]
    values = [side.get(percentile, {}).get("value") for side in (ours, theirs)]
    return None if None in values else float(values[0] / values[1])


def _latency(network: str, load: int, percentile: str, over: str, most: float) -> Target:
    return Target(
        f"{network}: {percentile} at {load} % over that of {over}", "load", f"{network}, {load}%",
        lambda row: latency_ratio(row, "sides", percentile, over), at_most=most,
        limit=lambda row: latency_ratio(row, "simulated", percentile, over),
    )  # fmt: skip


def _microseconds(kind: str) -> Callable[[Row], float]:
    return lambda row: 1e6 * float(row["seconds"][kind])


NETWORKS = ("policy", "small policy", "mlp", "unet")
TARGETS = (
    *(_throughput(name, WHOLE, 1.45) for name in NETWORKS),
    *(_throughput(name, ALONE, 3.0) for name in ("policy", "small policy")),
    *(_latency(name, 80, "p99", WHOLE, 0.4) for name in ("policy", "small policy")),
    *(_latency(name, 20, "p50", ALONE, 1.1) for name in NETWORKS),
    *(
        Target(
            f"{name}: throughput with the same bits in company, over without", "fixed rows", name,
            lambda row: float(row["ratios"][IN_FLIGHT]["ratio"]), at_least=0.9,
        )
        for name in NETWORKS
    ),
    Target("the service's own time for a step of 64 slots", "scheduler", "64 slots",
           _microseconds("staying"), at_most=50.0, unit="µs"),
    Target("the same with requests of 10 to 50 steps coming and going", "scheduler", "64 slots",
           _microseconds("mixed"), at_most=50.0, unit="µs"),
)  # fmt: skip


def outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """Every target that there is a row for, beside its figure."""
    named = {(row["part"], row["name"]): row for row in rows}
    return [
        Outcome(target, target.figure(row), target.limit(row))
        for target in TARGETS
        if (row := named.get((target.part, target.row))) is not None
    ]


def summary(rows: Sequence[Row]) -> str:
    """A line a target, for a terminal."""
    words = {True: "met     ", False: "NOT met ", None: "no figure"}
    return "\n".join(f"{words[o.met]} {_line(o)}" for o in outcomes(rows))


def _line(outcome: Outcome) -> str:
    target = outcome.target
    value = "-" if outcome.value is None else target.shown(outcome.value)
    possible = "" if outcome.possible is None else f"; possible {target.shown(outcome.possible)}"
    return f"{target.what}: {value} ({target.asked}{possible})"
