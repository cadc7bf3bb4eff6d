"""``--vs``: what is asked, and what is said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from revstep.bench.measure.titles import cell_name
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


@dataclasses.dataclass(frozen=True, slots=True)
class Versus:
    """What each cell takes turns with.

    Attributes:
        names: Of the baselines.
        module: A factory, or None.
        folder: A diffusers folder, or None.
    """

    names: tuple[str, ...]
    module: str | None
    folder: Path | None

    @classmethod
    def of(cls, vs: str, module: str | None, folder: Path | None) -> Versus:
        """The options, checked before any work.

        Raises:
            ValueError: An unknown baseline, or one without what it runs.
            ModuleNotFoundError: One is not installed.
        """
        from revstep.bench.baselines.registry import BASELINES

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
        return cls(asked, module, folder)

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
    for heading, side in (
        *(("cell", "left"), ("baseline", "left"), ("p50\nms", "right")),
        *(("revstep is\ntimes as fast", "right"), ("95 %\ninterval", "right")),
        *(("revstep is", "left"), ("largest\ndifference", "right")),
    ):
        table.add_column(heading, justify=side, no_wrap=heading != "cell")  # type: ignore[arg-type]
    for row in compared:
        for name, found in row["vs"].items():
            ratio = found["ratio"]
            table.add_row(
                cell_name(row), name, f"{found['summary']['median_s'] * 1e3:.2f}",
                f"{ratio['ratio']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}",
                found["verdict"], f"{found['largest_difference']:.1g}",
            )  # fmt: skip
    return table


def versus_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What ran, a line for each baseline."""
    titles = {(name, found["title"]) for row in rows for name, found in row.get("vs", {}).items()}
    for name, title in sorted(titles):
        yield f"{name}: {title}"
