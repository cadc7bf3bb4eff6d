"""``--vs``: what is asked, and what is said of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from revstep.bench.measure.titles import cell_name, place_of_largest, short_names
from revstep.commands.extras import need
from revstep.commands.parse import names
from revstep.engine.checks import check_one_of
from revstep.engine.errors import ArgumentError

if TYPE_CHECKING:
    from revstep.bench.baselines.turns import Turns
    from revstep.bench.measure.cell import Cell
    from revstep.engine.spec.denoiser import DenoiserSpec

Vs = Annotated[
    str,
    typer.Option(
        help="Baselines that take turns with it, comma-separated: diffusers, torch-eager, "
        "torch-compile, onnxruntime, openvino."
    ),
]
Module = Annotated[
    str | None,
    typer.Option(help="With --vs: package.module:function of the PyTorch module, as for export."),
]
Folder = Annotated[
    Path | None,
    typer.Option("--diffusers", help="With --vs: the diffusers folder that was exported."),
]

Openings = Annotated[
    int | None,
    typer.Option(
        help="How often both sides are opened anew, and share the time; default: 5 with --vs, else "
        "1. From 5 on intervals are over openings.",
        min=1,
    ),
]

ALL_STEPS = 20  # whose differences are listed; of more, as many


@dataclasses.dataclass(frozen=True, slots=True)
class Versus:
    """What each cell takes turns with.

    Attributes:
        names: Of the baselines.
        module: A factory, or None.
        folder: A diffusers folder, or None.
        openings: Of all sides.
    """

    names: tuple[str, ...]
    module: str | None
    folder: Path | None
    openings: int

    @classmethod
    def of(cls, vs: str, module: str | None, folder: Path | None, openings: int | None) -> Versus:
        """The options, checked before any work.

        Raises:
            ValueError: An unknown baseline, or one without what it runs.
            ModuleNotFoundError: One is not installed.
        """
        from revstep.bench.baselines.registry import BASELINES
        from revstep.bench.measure.openings import OPENINGS

        asked = tuple(dict.fromkeys(names(vs, "--vs"))) if vs else ()
        if module is not None and folder is not None:
            raise ArgumentError("name one of: --module, --diffusers", "module")
        for name in asked:
            check_one_of(name, "baseline of --vs", BASELINES)
            entry = BASELINES[name]
            if entry.folder and folder is None:
                raise ArgumentError(
                    f"the baseline {name!r} runs the scheduler and the network of a diffusers "
                    "folder, which a bundle doesn't hold: name the folder that was exported with "
                    "--diffusers DIR, or leave it out of --vs",
                    "vs",
                )
            if entry.module and folder is None and module is None:
                raise ArgumentError(
                    f"the baseline {name!r} runs the PyTorch module, which a bundle doesn't hold: "
                    "name what was exported with --module package.module:function or --diffusers "
                    "DIR, or leave it out of --vs",
                    "vs",
                )
            need(*entry.packages, purpose=f"the baseline {name!r}")
        if (module or folder) and not any(BASELINES[name].module for name in asked):
            given = "--module" if folder is None else "--diffusers"
            raise ArgumentError(
                f"{given} is for baselines that run the PyTorch module: name one, as "
                "--vs torch-compile",
                "vs",
            )
        often = openings or (OPENINGS if asked else 1)
        return cls(asked, module, folder, often)

    @property
    def estimate(self) -> str:
        """Why a cell takes longer than its rounds; empty where its sides are opened once."""
        return "" if self.openings == 1 else f"{self.openings} openings of its sides come on top"

    def turns(self, cells: Sequence[Cell], spec: DenoiserSpec) -> list[Turns]:
        """The baselines of each cell; raises where one can't run a cell's sampler."""
        from revstep.bench.baselines.source import Source
        from revstep.bench.baselines.turns import turns_of

        has = self.module is not None or self.folder is not None
        source = Source(spec, self.module, self.folder) if has else None
        return [turns_of(cell, self.names, spec, source) for cell in cells]


def versus_table(rows: Sequence[dict[str, Any]]) -> Table | None:
    """One line a baseline of a cell; None: there are none."""
    compared = [row for row in rows if "vs" in row]
    if not compared:
        return None
    table = Table(
        box=None, pad_edge=False, title="against the same work elsewhere, in turns",
        title_justify="left",
    )  # fmt: skip
    table.add_column("cell", min_width=11)
    for heading, side in (
        *(("baseline", "left"), ("p50\nms", "right")),
        *(("times\nas fast", "right"), ("95 %\ninterval", "right")),
        *(("revstep\nis", "left"), ("largest\ndifference", "right")),
    ):
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row in compared:
        for name, found in row["vs"].items():
            ratio = found["ratio"]
            table.add_row(
                cell_name(row), name, f"{found['summary']['median_s'] * 1e3:.2f}",
                f"{ratio['ratio']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}",
                found["verdict"], f"{found['largest_difference']:.1g}\n{place_of_largest(found)}",
            )  # fmt: skip
    return table


def versus_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What ran, a line for each baseline; and its differences, a line for each of a cell."""
    compared = [row for row in rows if "vs" in row]
    titles = {(name, found["title"]) for row in compared for name, found in row["vs"].items()}
    for name, title in sorted(titles):
        yield f"{name}: {title}"
    for row, cell in zip(compared, short_names(compared), strict=True):
        where = f"{cell}, " if len(compared) > 1 else ""
        for name, found in row["vs"].items():
            yield f"{where}{name} differs {_by_step(found['differences'])}"


def _by_step(differences: dict[str, Any]) -> str:
    """The differences of all steps; of many, of as many as are listed, and the ends."""
    steps, final = differences["steps"], differences["final"]
    if not (largest := max(*steps, final)):
        return f"by nothing in all of {len(steps)} steps, nor in the samples"
    power = math.floor(math.log10(largest))
    every = math.ceil(len(steps) / ALL_STEPS)

    def text(value: float) -> str:
        return f"{value / 10.0**power:.1f}"

    listed, which, ends = " ".join(map(text, steps[::every])), "", ""
    if every > 1:
        least, most = (steps.index(end(steps)) for end in (min, max))
        which = f" (1, {1 + every}, ... of {len(steps)})"
        ends = (
            f"; least {text(steps[least])} (step {least + 1}), most {text(steps[most])} "
            f"(step {most + 1})"
        )
    return f"by step{which}, in 1e{power:+03d}: {listed}{ends}; the samples {text(final)}"
