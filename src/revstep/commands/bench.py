"""``revstep bench``: latency of a bundle on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from revstep.commands.errors import report_errors
from revstep.commands.latency_table import latency_table, machine_line
from revstep.commands.output import counter, out, print_json, progress_bars
from revstep.commands.parse import options, whole_numbers
from revstep.commands.shared_options import AsJson, Backend, Device, Guidance, Precision, Steps


@report_errors
def bench(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    batch: Annotated[str, typer.Option(help="Samples per run, comma-separated.")] = "1,16",
    sampler: Annotated[str, typer.Option(help="The sampler's name.")] = "ddim",
    steps: Steps = None,
    guidance: Guidance = 1.0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Sampler option, name=value; repeatable.")
    ] = None,
    runs: Annotated[int, typer.Option(help="Max runs per batch size.", min=3)] = 100,
    seconds: Annotated[float, typer.Option(help="Max seconds per batch size.", min=0.1)] = 30.0,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the network; default: all usable cores. Small networks are often "
            "fastest with --threads 1.",
            min=1,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure whole runs: p50, p90, p99, and the time outside the network.

    Step, network and outside are the median run's, and add up.
    """
    import revstep
    from revstep.bench.latency import measure
    from revstep.bench.machine import machine_info
    from revstep.engine.program.samplers import make_sampler
    from revstep.engine.program.steps import default_steps

    sizes = whole_numbers(batch, "--batch")
    chosen = make_sampler(sampler, **options(set_ or []))
    engine = revstep.load(
        bundle, backend=backend, device=device, precision=precision, threads=threads
    )
    with progress_bars() as bars:
        rows = [
            measure(
                engine,
                size,
                sampler=chosen if set_ else sampler,
                steps=steps or default_steps(engine.spec, engine.spec.grid_of()),
                guidance=guidance,
                runs=runs,
                seconds=seconds,
                progress=counter(bars.bar(f"batch {size}")),
            )
            for size in sizes
        ]
    machine = machine_info()
    if as_json:
        described = {"machine": machine, "engine": engine.describe()}
        print_json({**described, "rows": [row.to_dict() for row in rows]})
        return
    out().print(latency_table(rows))
    typer.echo(machine_line(machine))
