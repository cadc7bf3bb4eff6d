"""Options that several commands have, each with the same words everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from revstep.engine.backends.registry import NAMES
from revstep.engine.open.bundle import DEVICES

Backend = Annotated[str, typer.Option(help=f"{', '.join(NAMES)}.")]
Device = Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")]
Precision = Annotated[str | None, typer.Option(help="Which graph; default: the best.")]
Threads = Annotated[
    int | None, typer.Option(help="Threads of the network; default: all usable cores.", min=1)
]

Steps = Annotated[
    int | None, typer.Option(help="Steps of the time grid; default: 20, or what a given grid has.")
]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance; 1 is off.")]
SamplerName = Annotated[
    str | None, typer.Option(help="ddim, ddpm, dpmpp_2m, ...; default: the bundle's own, or ddim.")
]
SamplerOptions = Annotated[
    list[str] | None,
    typer.Option("--set", help="Sampler option, name=value (eta=0.5); repeatable."),
]
TimeGrid = Annotated[str | None, typer.Option(help="trailing, leading, linspace, karras, ...")]
Compat = Annotated[str | None, typer.Option(help="diffusers: step as that library.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NegativePrompt = Annotated[
    str | None, typer.Option(help="With --guidance: what to lead away from; default: empty.")
]
EncoderInput = Annotated[
    list[str] | None,
    typer.Option(
        "--input", help="name=value, a list or a .npy file for the bundle's encoders; repeatable."
    ),
]
