"""``revstep serve``: bundles over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from revstep.commands.errors import report_errors
from revstep.commands.extras import need
from revstep.commands.shared_options import Backend, Device, Precision, Threads
from revstep.engine.bundle.layout import bundle_name

if TYPE_CHECKING:
    from revstep.engine.service.service import Service

REPRODUCIBLE_HELP = (
    "One number of rows in every network call, so that a request's bits don't depend on others."
)


@report_errors
def serve(
    bundles: Annotated[list[Path], typer.Argument(help="The bundles.", metavar="BUNDLE...")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 is seen from this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: a free one.", min=0, max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="A file with the bearer token that clients must send."),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(help="Network rows of the largest call; default: 16, or what fits.", min=1),
    ] = None,
    max_queue: Annotated[
        int, typer.Option(help="Requests that may wait per bundle; more get 503.", min=1)
    ] = 256,
    deterministic: Annotated[bool, typer.Option("--deterministic", help=REPRODUCIBLE_HELP)] = False,
    max_steps: Annotated[int, typer.Option(help="Most steps of a request.", min=1)] = 1000,
    max_samples: Annotated[int, typer.Option(help="Most samples of a request.", min=1)] = 64,
    max_body: Annotated[int, typer.Option(help="Most bytes of a body.", min=1024)] = 16 << 20,
    deadline: Annotated[
        float | None,
        typer.Option(help="Seconds in which a request that names no deadline must be done."),
    ] = None,
    grace: Annotated[
        int, typer.Option(help="Seconds that running requests get at SIGTERM.", min=0)
    ] = 30,
    page: Annotated[bool, typer.Option("--page/--no-page", help="A web page at /.")] = True,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = None,
    threads: Threads = None,
) -> None:
    """Serve bundles over HTTP, until SIGTERM or Ctrl-C.

    Requests share every network call. A model's name is its bundle's, without .revstep. See
    /openapi.json for the API, / for a page to try it, /metrics for Prometheus.
    """
    need("fastapi", "uvicorn", "prometheus_client", purpose="serving over HTTP")
    import revstep
    from revstep.serve.http.app import create_app
    from revstep.serve.http.limits import Limits
    from revstep.serve.http.run import allowed_hosts, check_address, run
    from revstep.serve.http.token_file import read_token

    if deadline is not None and not deadline > 0.0:
        raise ValueError(f"--deadline must be above 0 seconds; got {deadline}")
    names = [bundle_name(bundle.resolve()) for bundle in bundles]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two bundles have the name {min(twice)!r}; rename one of their folders")
    token = None if token_file is None else read_token(token_file)
    if token is None and allowed_hosts(host) is None:
        text = f"warning: whoever reaches {host} may use this server; --token-file asks for a token"
        typer.echo(text, err=True)
    check_address(host, port)
    engines = {
        name: revstep.load(
            bundle, backend=backend, device=device, precision=precision, threads=threads
        )
        for name, bundle in zip(names, bundles, strict=True)
    }

    services = {
        name: revstep.Service(
            engine,
            slots=slots,
            max_queue=max_queue,
            deterministic=deterministic,
            warm_up=False,
        )
        for name, engine in engines.items()
    }

    def warm() -> Mapping[str, Service]:
        for service in services.values():
            service.warm_up()
        return services

    app = create_app(
        warm,
        limits=Limits(max_steps, max_samples, max_body, deadline),
        token=token,
        page=page,
        allowed_hosts=allowed_hosts(host),
    )
    run(
        app,
        host=host,
        port=port,
        grace_s=grace,
        started=lambda url: typer.echo(f"serving {', '.join(names)} on {url}"),
    )
