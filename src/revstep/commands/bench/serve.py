"""``revstep bench serve``: open-loop load on a service."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from revstep.bench.load.looked_into import in_slices, loads_of, looked_into
from revstep.commands.bench.loads import load_line, loads_table, said_of, slices_table
from revstep.commands.bench.table import machine_line
from revstep.commands.errors import INTERRUPTED, report_errors
from revstep.commands.extras import need
from revstep.commands.output import out, rows_at_end
from revstep.commands.parse import duration, numbers
from revstep.commands.shared_options import AsJson, Backend, Device, Guidance, Precision, Threads
from revstep.engine.errors import ArgumentError

if TYPE_CHECKING:
    from revstep.bench.load.client import Client

Row = dict[str, Any]
URLS = ("http://", "https://")


@report_errors
def serve(
    target: Annotated[
        str,
        typer.Argument(
            help="The URL of a running `revstep serve`; or a bundle, which is served here.",
            metavar="URL|BUNDLE",
        ),
    ],
    rate: Annotated[
        str, typer.Option(help="Requests a second, comma-separated: a load each.")
    ] = "",
    p99: Annotated[
        str | None,
        typer.Option(
            help="Such as 200ms. Without --rate: search the highest rate at which it holds."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of each load.", min=0.1)] = 30.0,
    deadline: Annotated[
        str | None, typer.Option(help="Such as 100ms: what is answered within it counts as good.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of arrivals and requests.", min=0)] = 0,
    n: Annotated[int, typer.Option("-n", help="Samples of a request.", min=1)] = 1,
    sampler: Annotated[
        str | None, typer.Option(help="Of a request; default: the model's own.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of a request; default: the model's own.", min=1)
    ] = None,
    guidance: Guidance = 1.0,
    requests: Annotated[
        Path | None,
        typer.Option(help="A .jsonl file of request bodies, drawn by the seed, instead of these."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model's name, where the service has several.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the bearer token that the service asks for.")
    ] = None,
    connections: Annotated[
        int, typer.Option(help="Requests at once; one more can't be sent.", min=1, max=10_000)
    ] = 512,
    timeout: Annotated[float, typer.Option(help="Seconds of a request.", min=0.1)] = 60.0,
    slots: Annotated[
        int | None, typer.Option(help="Of a bundle's service: network rows.", min=1)
    ] = None,
    max_queue: Annotated[
        int | None, typer.Option(help="Of a bundle's service: requests that wait.", min=1)
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = None,
    threads: Threads = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .jsonl file that gets the rows too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load a service, whatever it answers: percentiles, goodput, and the highest rate that holds.

    Requests are due at random (Poisson) and sent then; a latency counts from when a request was due
    to its answer's last byte. Refused, failed and unsent ones count as never answered.
    """
    from revstep.bench.load.load import Load
    from revstep.bench.load.verdict import Limit

    limit = None if p99 is None else Limit(duration(p99, "--p99"))
    deadline_s = None if deadline is None else duration(deadline, "--deadline")
    rates = numbers(rate, "--rate", "5, 0.5,2 or 10-12") if rate else []
    loads = [Load(rate=each, seconds=seconds, seed=seed, answer_s=timeout) for each in rates]
    for load in loads:
        load.check_supports(50.0 if limit is None else limit.percent)
    if not loads and limit is None:
        raise ArgumentError("give --rate, or --p99 to search the highest rate at which it holds")
    if requests is not None and (n != 1 or sampler or steps or guidance != 1.0):
        raise ArgumentError(
            "--requests says what is asked for: leave out -n, --sampler, --steps and --guidance"
        )
    if output is not None:
        from revstep.bench.rows import check_appends

        check_appends(output)
    options = {"slots": slots, "max_queue": max_queue, "precision": precision, "threads": threads,
               "backend": None if backend == "auto" else backend,
               "device": None if device == "auto" else device}  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    rows: list[Row] = []
    try:
        with (
            rows_at_end(rows, as_json, _show),
            _client(target, given, token_file, connections, timeout) as (client, about),
        ):
            from revstep.bench.load.asks import asks_of_file, plain_asks
            from revstep.bench.load.served import served_model
            from revstep.bench.load.session import Session
            from revstep.bench.load.warm_up import warm_up

            served = served_model(client, model)
            asks = (
                plain_asks(served, n=n, sampler=sampler, steps=steps, guidance=guidance)
                if requests is None
                else asks_of_file(requests, served["name"])
            )
            alone = warm_up(client, asks)
            typer.echo(
                f"seed {seed}; a request alone takes {alone.median_s * 1e3:.3g} ms", err=True
            )
            session = Session(
                client=client, model=served, asks=asks, alone=alone, about=about, limit=limit,
                deadline_s=deadline_s, told=_teller(rows, output),
            )  # fmt: skip
            for load in loads:
                session.run(load)
            if not loads:
                session.search(seconds, seed, timeout)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; what was measured is above: rows {len(rows)}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _teller(rows: list[Row], output: Path | None) -> Callable[[Row], None]:
    """Keeps a row, writes it, and says it: no bar moves while a service is loaded."""
    from revstep.bench.rows import append_row

    def told(row: Row) -> None:
        rows.append(row)
        if output is not None:
            append_row(output, row)
        if row["part"] == "load":
            typer.echo(load_line(row), err=True)

    return told


@contextlib.contextmanager
def _client(
    target: str,
    given: dict[str, Any],
    token_file: Path | None,
    connections: int,
    timeout_s: float,
) -> Iterator[tuple[Client, dict[str, Any]]]:
    """A client of the service, which is started here for a bundle; and what rows say of it."""
    from revstep.bench.load.client import Client
    from revstep.serve.http.token_file import read_token

    if target.startswith(URLS):
        if given:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ArgumentError(f"{named}: of a bundle that is served here; {target} is running")
        token = None if token_file is None else read_token(token_file)
        with Client(target, token=token, connections=connections, timeout_s=timeout_s) as client:
            yield client, {"url": target}
        return
    if token_file is not None:
        raise ArgumentError("--token-file is for a running service's URL")
    bundle = Path(target)
    if ":" in target and not bundle.exists():
        address = target.rpartition("://")[2]
        raise ArgumentError(f"there is no bundle {target}; a URL is written http://{address}")
    need("fastapi", "uvicorn", "prometheus_client", purpose="serving a bundle")
    from revstep.bench.load.local import served_here
    from revstep.bench.load.served import await_ready
    from revstep.engine.bundle.reader import Bundle

    Bundle.open(bundle)
    options = [
        text for name, value in given.items()
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]  # fmt: skip
    with (
        served_here(bundle, options) as (url, alive),
        Client(url, connections=connections, timeout_s=timeout_s) as client,
    ):
        await_ready(client, alive)
        yield client, {"bundle": bundle.absolute().name, "options": given}


def _show(rows: list[Row]) -> None:
    shown = looked_into(rows)
    if shown is not None:
        out().print(loads_table(loads_of(rows)))
        if in_slices(shown):
            out().print(slices_table(shown))
    for line in said_of(rows):
        typer.echo(line)
    typer.echo(machine_line(rows[0]["machine"]))
