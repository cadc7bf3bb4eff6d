"""``revstep bench run``: latency of a bundle's whole runs on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from revstep.commands.bench.limits import Limits
from revstep.commands.bench.parts import add_parts, part_lines, parts_tables
from revstep.commands.bench.table import latency_table, machine_line, notes
from revstep.commands.bench.versus import (
    Folder,
    Module,
    Openings,
    Versus,
    Vs,
    versus_lines,
    versus_table,
)
from revstep.commands.errors import INTERRUPTED, report_errors
from revstep.commands.output import (
    Bars,
    counter,
    messages_once,
    out,
    progress_bars,
    rows_at_end,
)
from revstep.commands.parse import names, options, whole_numbers
from revstep.commands.shared_options import AsJson, Device, Guidance
from revstep.engine.errors import ArgumentError

if TYPE_CHECKING:
    from revstep.bench.baselines.turns import Turns
    from revstep.bench.measure.cell import Cell
    from revstep.bench.measure.measure import Measured, Work
    from revstep.bench.measure.rounds import Budget
    from revstep.engine.bundle.reader import Bundle
    from revstep.engine.engine import Engine

COLD_STARTS = 5
COLD_S = 3.0  # of one, about: for the estimate of a grid's time


@report_errors
def run(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    batch: Annotated[str, typer.Option(help="Samples per run, comma-separated.")] = "1,16",
    sampler: Annotated[
        str, typer.Option(help="Samplers, comma-separated; default: the bundle's own.")
    ] = "",
    steps: Annotated[
        str, typer.Option(help="Steps, comma-separated; default: 20, or what a given grid has.")
    ] = "",
    guidance: Guidance = 1.0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Sampler option, name=value; repeatable.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Backends, comma-separated.")] = "auto",
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="Precisions, comma-separated; default: the best.")
    ] = "",
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the network; default: all usable cores. Small networks are often "
            "fastest with --threads 1.",
            min=1,
        ),
    ] = None,
    runs: Annotated[int | None, typer.Option(help="Max runs of each cell.", min=8)] = None,
    seconds: Annotated[
        float, typer.Option(help="Seconds of each cell; 8 runs are made however long.", min=0.1)
    ] = 30.0,
    noise: Annotated[
        float,
        typer.Option(help="Stop when the median is known to this, relative; 0: never.", min=0.0),
    ] = 0.005,
    total: Annotated[
        float | None,
        typer.Option(
            help="Max seconds of the whole grid: a larger one is refused, by an estimate with "
            "--deadline."
        ),
    ] = None,
    cold: Annotated[
        int, typer.Option(help="Processes of the cold start; 0: none.", min=0)
    ] = COLD_STARTS,
    cold_hook: Annotated[
        str | None,
        typer.Option(help="Shell command before each cold start, to clear caches."),
    ] = None,
    price: Annotated[
        float | None, typer.Option(help="Of this machine, an hour, for the cost of samples.", min=0)
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(help="Such as 20ms: search the most steps that fit it at p99."),
    ] = None,
    find: Annotated[
        str | None,
        typer.Option(help="What --deadline searches: steps or batch; default: steps."),
    ] = None,
    tick: Annotated[
        str | None,
        typer.Option(help="Such as 50ms: a control loop at that rate, and what it misses."),
    ] = None,
    loop_only: Annotated[
        bool,
        typer.Option("--loop-only", help="Leave out whole requests, with encoders and decoder."),
    ] = False,
    vs: Vs = "",
    module: Module = None,
    diffusers: Folder = None,
    openings: Openings = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .jsonl file that gets the rows too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure whole runs: percentiles with their bounds, and where a step's time goes.

    Every engine is checked against the bundle's reference first. Each cell of the grid (backend x
    precision x sampler x steps x batch) runs until its median is known or its time is over, and
    says which. Ctrl-C and failures keep the cells before them.
    """
    from revstep.bench.measure.cell import Cell, check_total, grid
    from revstep.bench.measure.possible import check_cells
    from revstep.bench.measure.rounds import Budget
    from revstep.bench.measure.summary import check_price
    from revstep.bench.rows import append_row, check_appends
    from revstep.engine.bundle.layout import part_keys
    from revstep.engine.bundle.reader import Bundle

    if set_ and not sampler:
        raise ArgumentError("--set is for a sampler: name it with --sampler", "sampler")
    base = Cell(device=device, threads=threads, guidance=guidance, options=options(set_ or []))
    cells = grid(
        base,
        backend=names(backend, "--backend"),
        precision=names(precision, "--precision") if precision else (),
        sampler=names(sampler, "--sampler") if sampler else (),
        steps=whole_numbers(steps, "--steps") if steps else (),
        batch=whole_numbers(batch, "--batch"),
    )
    if cold_hook is not None and not cold:
        raise ArgumentError(
            "--cold-hook runs before each cold start, and --cold 0 makes none: leave one out",
            "cold_hook",
        )
    check_price(price)
    limits = Limits.of(deadline, find, tick, seconds)
    budget = Budget(seconds=seconds, noise=noise, runs=runs)
    versus = Versus.of(vs, module, diffusers, openings)
    budget.shares(versus.openings)
    opened = Bundle.open(bundle)
    whole = bool(part_keys(opened.spec)) and not loop_only
    times = limits.times + whole
    estimate = "; ".join(filter(None, (limits.estimate, versus.estimate)))
    check_total(cells, seconds, total, cold * COLD_S, times=times, estimate=estimate)
    turns = versus.turns(cells, opened.spec)
    check_cells(opened.spec, [each.cell for each in turns])  # as baselines have them run
    limits.check(opened.spec)
    if output is not None:
        check_appends(output)
    rows: list[dict[str, Any]] = []
    interrupted = False
    with (
        rows_at_end(rows, as_json, _show),
        messages_once(),  # each opening would say again that a bundle isn't compiled
        progress_bars() as bars,  # which end before the table
    ):
        try:
            for row in _measured(
                opened, turns, budget, versus.openings, price, limits, bars, whole
            ):
                rows.append(row)
                try:
                    if cold and len(rows) == 1:
                        row["cold"] = _cold(opened, turns[0].cell, cold, cold_hook, bars)
                finally:
                    if output is not None:
                        append_row(output, row)
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
    if interrupted:
        typer.echo(f"interrupted: {len(rows)} of {len(cells)} cells are above", err=True)
        raise typer.Exit(INTERRUPTED)


def _measured(
    bundle: Bundle,
    turns: list[Turns],
    budget: Budget,
    openings: int,
    price: float | None,
    limits: Limits,
    bars: Bars,
    whole: bool,
) -> Iterator[dict[str, Any]]:
    """The rows of the grid, as they come; what ends one early is raised once it is given."""
    from revstep.bench.measure.engines import open_engine
    from revstep.bench.measure.openings import measure_openings
    from revstep.bench.rows import new_row

    measured: Measured | None = None
    of: tuple[object, ...] = ()
    for others in turns:
        cell = others.cell
        again = openings == 1 and of == cell.opened and measured is not None
        work = measured.work if again and measured is not None else None
        measured = None  # before there is another engine: they may not fit side by side

        def opener(cell: Cell = cell, work: Work | None = work) -> Engine:
            return open_engine(bundle.path, cell) if work is None else work.engine

        report = counter(bars.bar(str(cell)))
        measured = measure_openings(
            bundle, cell, opener, budget, openings, price=price, others=others, progress=report
        )
        of = cell.opened
        row = new_row("latency", {**measured.figures, **others.figures(measured)})
        ended: BaseException | None = None
        try:
            if measured.work is None or measured.stopped == "interrupted":
                raise KeyboardInterrupt
            if whole:
                add_parts(row, measured.work, budget, price, bars)
            limits.add_to(row, measured.work, bars)
        except (KeyboardInterrupt, Exception) as error:  # the row is whole without them
            ended = error
        yield row
        if ended is not None:
            raise ended


def _cold(bundle: Bundle, cell: Cell, count: int, hook: str | None, bars: Bars) -> dict[str, Any]:
    from revstep.bench.measure.cold import cold_starts

    return cold_starts(bundle.path, cell, count, hook, counter(bars.bar("cold starts")))


def _show(rows: list[dict[str, Any]]) -> None:
    out().print(latency_table(rows))
    for table in parts_tables(rows):
        out().print(table)
    if (compared := versus_table(rows)) is not None:
        out().print(compared)
    for line in versus_lines(rows):
        out().print(line)  # many numbers, which a terminal would break anywhere
    for line in (*notes(rows), *part_lines(rows)):
        typer.echo(line)
    typer.echo(machine_line(rows[0]["machine"]))
