"""The sections of the report: what each shows, and what measures it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from revstep.bench.load.looked_into import loads_of
from revstep.bench.report import others, plots, tables
from revstep.bench.report.html import Html, joined, tag
from revstep.bench.report.style import Palette

Row = dict[str, Any]
Drawn = Iterator[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """What a report is made of.

    Attributes:
        rows: Of ``bench``.
        quality: Rows of quality against network calls of the same denoiser; none: no such section.
    """

    rows: Sequence[Row]
    quality: Sequence[Row] = ()

    @property
    def runs(self) -> list[Row]:
        """The rows of whole runs."""
        return [row for row in self.rows if row["bench"] == "latency"]

    @property
    def points(self) -> dict[str, list[tuple[float, float]]]:
        """Sampler -> (seconds of a sample, Fréchet distance).

        A sample takes its network calls times a step of the cell that draws samples fastest: a step
        of one sampler costs what that of another does.
        """
        step = self.fastest_step
        found: dict[str, dict[int, float]] = {}
        for row in self.quality:
            found.setdefault(row["sampler"], {}).setdefault(row["calls"], row["frechet_distance"])
        return {
            name: [(calls * step, line[calls]) for calls in sorted(line)]
            for name, line in found.items()
            if step
        }

    @property
    def fastest_step(self) -> float:
        """Seconds of a step for one sample, without guidance; 0: not measured."""
        return min(
            (
                row["summary"]["step_s"] / row["cell"]["batch"]
                for row in self.runs
                if row["cell"]["guidance"] == 1.0
            ),
            default=0.0,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A section of the page.

    Attributes:
        title: Its title.
        there: Whether the rows have anything for it.
        text: Its tables.
        draw: Its plots, one after the other; None: it has none.
        otherwise: What measures it.
    """

    title: str
    there: Callable[[Given], bool]
    text: Callable[[Given], Html]
    draw: Callable[[Any, Given, Palette], Drawn] | None = None
    otherwise: str = ""


def machines_of(rows: Sequence[Row]) -> list[Row]:
    """The machines of rows, each once: what they are told by is all but their time and clock."""
    found: dict[str, Row] = {}
    for row in rows:
        machine = row["machine"]
        told = {name: value for name, value in machine.items() if name not in ("time", "clocks")}
        found.setdefault(json.dumps(told, sort_keys=True), machine)
    return list(found.values())


def _runs_of(draw: Callable[..., Drawn]) -> Callable[[Any, Given, Palette], Drawn]:
    """A plot of the rows of whole runs."""
    return lambda plt, given, palette: draw(plt, given.runs, palette)


def _has(name: str) -> Callable[[Given], bool]:
    """Whether a row has something of that name."""
    return lambda given: any(row.get(name) for row in given.runs)


def _batches(given: Given) -> bool:
    return len({row["cell"]["batch"] for row in given.runs}) > 1


def _quality_text(given: Given) -> Html:
    images = ", ".join(sorted({str(row["images"]) for row in given.quality}))
    return tag(
        "p",
        f"A sample takes its network calls times {given.fastest_step * 1e3:.4g} ms, a step of the "
        f"cell that draws samples fastest, over its batch. Distances are of {images} images; they "
        "scatter by several tenths from seed to seed.",
        class_="soft",
    )


SECTIONS: Mapping[str, Section] = {
    "cells": Section(
        "Whole runs", lambda g: bool(g.runs), lambda g: tables.cells(g.runs),
        otherwise="whole runs: revstep bench run BUNDLE --output rows.jsonl",
    ),
    "distribution": Section(
        "How runs are distributed", lambda g: bool(g.runs),
        lambda g: tag("p", "Dots are percentiles that so many runs support, bars their bounds at "
                      "99 % confidence.", class_="soft"), _runs_of(plots.distribution),
    ),
    "batches": Section(
        "Batch against latency and throughput", _batches, lambda g: Html(),
        _runs_of(plots.batches), "batches: revstep bench run BUNDLE --batch 1,4,16",
    ),
    "split": Section(
        "Where a step's time goes", lambda g: bool(g.runs), lambda g: tables.split(g.runs),
        _runs_of(plots.split),
    ),
    "requests": Section(
        "Where a request's time goes", _has("parts"), lambda g: tables.requests(g.runs),
        _runs_of(plots.requests),
    ),
    "cold": Section(
        "Cold start", _has("cold"),
        lambda g: tables.cold(next(row for row in g.runs if row.get("cold"))),
        _runs_of(plots.cold), "cold start: revstep bench run BUNDLE --cold 5",
    ),
    "baselines": Section(
        "Beside other ways to run it", _has("vs"), lambda g: tables.baselines(g.runs),
        _runs_of(others.baselines),
        "other ways to run it: revstep bench run BUNDLE --vs diffusers,onnxruntime",
    ),
    "limits": Section(
        "Deadlines and control loops", lambda g: _has("deadline")(g) or _has("tick")(g),
        lambda g: joined(tables.limits(g.runs)), _runs_of(others.deadlines),
        "deadlines: revstep bench run BUNDLE --deadline 20ms --tick 50ms",
    ),
    "service": Section(
        "A service under load", lambda g: bool(loads_of(g.rows)),
        lambda g: joined(tables.loads(g.rows)),
        lambda plt, g, palette: others.loads(plt, g.rows, palette),
        "a service under load: revstep bench serve BUNDLE --p99 200ms --output rows.jsonl",
    ),
    "quality": Section(
        "Quality against time", lambda g: bool(g.points), _quality_text,
        lambda plt, g, palette: others.quality(plt, g.points, palette),
        "quality against time: revstep bench report rows.jsonl --quality "
        "bench/results/quality_steps.jsonl, for the bundled denoiser",
    ),
    "disturbances": Section(
        "Can the numbers be trusted?", lambda g: bool(g.runs), lambda g: tables.disturbances(g.runs)
    ),
    "machine": Section(
        "Machine and versions", lambda g: True,
        lambda g: joined(map(tables.machine, machines_of(g.rows))),
    ),
}  # fmt: skip
