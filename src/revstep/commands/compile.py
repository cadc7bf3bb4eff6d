"""``revstep compile``: a bundle's graph for a runtime, checked against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from revstep.commands.guard import guarded
from revstep.commands.output import out, print_json, progress_bars

__all__ = ["compile_", "parity_lines"]


@guarded
def compile_(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    target: Annotated[str, typer.Option(help="The runtime to compile for.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="Which graph: fp32, fp16, bf16.")] = "fp32",
    forward_bound: Annotated[
        float | None,
        typer.Option(help="Largest max error of one forward, relative to the reference's RMS."),
    ] = None,
    run_bound: Annotated[
        float | None,
        typer.Option(help="Largest RMS error of a DDIM-20 run, relative to the reference's RMS."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the network; default: all cores.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compile a bundle and check it against PyTorch's output; a failed check changes nothing."""
    from revstep.export import compile_bundle

    bounds = {
        name: value
        for name, value in (("forward", forward_bound), ("ddim20", run_bound))
        if value is not None
    }
    with progress_bars() as bars:
        entry = compile_bundle(
            bundle,
            target=target,
            precision=precision,
            bounds=bounds or None,
            threads=threads,
            progress=bars.bar("Compile"),
        )
    if as_json:
        print_json(entry.to_dict())
        return
    out().print(f"{entry.runtime} {entry.version}, {entry.precision}, {entry.device}")
    for line in parity_lines(entry.parity):
        out().print(f"  {line}")


def parity_lines(parity: dict[str, Any] | str) -> list[str]:
    """The figures of a parity check, a line each."""
    if isinstance(parity, str):
        return [f"parity: {parity}"]
    lines = []
    for name, figures in parity.items():
        if isinstance(figures, dict):
            text = ", ".join(f"{key} {_figure(value)}" for key, value in figures.items())
        else:
            text = _figure(figures)
        lines.append(f"parity, {name}: {text}")
    return lines


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
