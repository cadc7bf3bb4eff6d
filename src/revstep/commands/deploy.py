"""``revstep deploy``: a bundle as models of an inference server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from revstep.commands.errors import report_errors
from revstep.commands.output import print_json
from revstep.commands.shared_options import AsJson, Backend, Precision, Threads
from revstep.engine.open.bundle import DEVICES


@report_errors
def deploy(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    triton: Annotated[
        Path,
        typer.Option(
            help="Triton Inference Server's model repository, which gets two models: one that "
            "samples, for the Python backend, and the network alone, for the ONNX Runtime backend.",
            metavar="DIR",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="The model's name; default: the bundle's. The network's: NAME_network."),
    ] = None,
    network: Annotated[
        bool,
        typer.Option(
            help="Write the network alone too. A Triton without the ONNX Runtime backend doesn't "
            "start with it."
        ),
    ] = True,
    reference: Annotated[
        bool, typer.Option("--reference", help="Name the bundle by its path, don't copy it.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace models that a deploy wrote.")
    ] = False,
    device: Annotated[
        str, typer.Option(help=f"{', '.join(DEVICES)}; auto: each GPU of the server, else its CPU.")
    ] = "auto",
    instances: Annotated[
        int,
        typer.Option(help="Processes on each device, each with the network loaded.", min=1),
    ] = 1,
    backend: Backend = "auto",
    precision: Precision = None,
    threads: Threads = None,
    slots: Annotated[
        int | None, typer.Option(help="Network rows of the largest call; default: 16.", min=1)
    ] = None,
    max_queue: Annotated[
        int, typer.Option(help="Requests that may wait in an instance.", min=1)
    ] = 256,
    max_samples: Annotated[int, typer.Option(help="Most samples of a request.", min=1)] = 256,
    max_steps: Annotated[
        int | None, typer.Option(help="Most steps of a request; default: as trained.", min=1)
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="A request's bits are the same in any company."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a bundle into a model repository of Triton Inference Server."""
    from revstep.serve.triton.repository import write_models
    from revstep.serve.triton.settings import Settings

    deployed = write_models(
        bundle,
        triton,
        name=name,
        settings=Settings(
            backend=backend,
            precision=precision,
            threads=threads,
            slots=slots,
            max_queue=max_queue,
            max_samples=max_samples,
            max_steps=max_steps,
            deterministic=deterministic,
        ),
        device=device,
        instances=instances,
        network=network,
        reference=reference,
        overwrite=overwrite,
    )
    if as_json:
        print_json(
            {
                "sampling": deployed.sampling,
                "network": deployed.network,
                "bundle": deployed.bundle,
                "precision": deployed.precision,
            }
        )
        return
    typer.echo(f"{deployed.sampling}: the model that samples (Python backend)")
    if deployed.network is not None:
        what = f"the network alone, {deployed.precision} (ONNX Runtime backend)"
        typer.echo(f"{deployed.network}: {what}")
    how = "read where it is" if reference else "copied"
    typer.echo(f"The bundle is {how}: {deployed.bundle}")
    typer.echo(f"Next: tritonserver --model-repository={triton}")
