"""Processes of several builds in turns, pinned to one core, each from its start to a sample."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from revstep.bench.compare import ratio_interval
from suites.cpu.turns import THREADS, Failed, last_words

CHILD = Path(__file__).with_name("child.py")
PHASES = ("python", "import", "load", "first", "total")
SECONDS = 120


@dataclass(frozen=True, slots=True)
class Request:
    """One sample with ``ddim``, on as many cores as it has threads.

    Attributes:
        name: As the rows have it.
        steps: Of the sampler.
        guidance: 1 takes one network row a step, another two.
        threads: Inside an operator.
    """

    name: str
    steps: int
    guidance: float = 1.0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Side:
    """A contender.

    Attributes:
        name: As the rows have it.
        python: The interpreter that has its build.
        way: ``revstep``, or ``bare``: the network calls alone.
    """

    name: str
    python: str
    way: str = "revstep"


@dataclass(slots=True)
class Starts:
    """What a side's processes told, a round each: seconds by phase, and the samples' digests."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {p: [] for p in PHASES})
    digests: set[str] = field(default_factory=set)


Start = Callable[[Side, Path, Request], Mapping[str, Any]]


def run(side: Side, bundle: Path, request: Request) -> dict[str, Any]:
    """One process: when it began, its times, and its digest.

    Raises:
        Failed: It ended with an error.
    """
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    done = subprocess.run(
        [
            *(side.python, str(CHILD), side.way, str(bundle)),
            *map(str, (request.threads, request.steps, request.guidance)),
        ],
        env=_environment(), cwd="/", capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{side.name}: {last_words(done.stderr)}")
    return {"begun": begun, **json.loads(done.stdout.splitlines()[-1])}


def _environment() -> dict[str, str]:
    """One thread, what is installed, and no report home: alike for all sides."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {**own, **dict.fromkeys(THREADS, "1"), "ORT_DISABLE_TELEMETRY": "1"}


def take_turns(
    sides: Sequence[Side], bundle: Path, request: Request, rounds: int, start: Start = run
) -> dict[str, Starts]:
    """All sides in every round, in an order that turns round; one before is for the page cache.

    Raises:
        Failed: A process failed, or two of revstep's samples have other bits.
    """
    found = {side.name: Starts() for side in sides}
    for number in range(-1, rounds):
        for side in list(sides)[:: -1 if number % 2 else 1]:
            told = start(side, bundle, request)
            _check_bits(found, side, told["digest"])
            if number < 0:
                continue
            times = [told["begun"], *told["times"]]
            parts = [b - a for a, b in itertools.pairwise(times)]
            for phase, value in zip(PHASES, [*parts, times[-1] - times[0]], strict=True):
                found[side.name].seconds[phase].append(value)
    return found


def _check_bits(found: Mapping[str, Starts], side: Side, digest: str) -> None:
    if side.way != "revstep":
        return
    found[side.name].digests.add(digest)
    if len(set().union(*(starts.digests for starts in found.values()))) > 1:
        raise Failed(f"{side.name} draws other bits: start-ups of different work can't be compared")


def figures(found: Mapping[str, Starts], old: str, new: str) -> dict[str, Any]:
    """What a row keeps: medians, every value, and ``new`` over ``old`` round by round.

    A ratio is the median over rounds, with a 95 % interval (bootstrap): below 1, ``new`` is faster.
    """
    middle = {
        name: {phase: median(values) for phase, values in starts.seconds.items()}
        for name, starts in found.items()
    }
    over = {
        name: ratio_interval([found[old].seconds["total"]], [starts.seconds["total"]])
        for name, starts in found.items()
        if name != old
    }
    phases = {
        phase: ratio_interval([found[old].seconds[phase]], [found[new].seconds[phase]])
        for phase in PHASES
    }
    raw = {name: starts.seconds for name, starts in found.items()}
    return {"seconds": middle, "over_old": over, "phases_over_old": phases, "rounds": raw}
