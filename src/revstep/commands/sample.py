"""``revstep sample``: draw samples from a bundle into files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from revstep.commands.conditions import check_negative, given_conditions, given_inputs
from revstep.commands.errors import report_errors
from revstep.commands.extras import need
from revstep.commands.input_files import read_input
from revstep.commands.output import counter, print_json, progress_bars, size
from revstep.commands.parse import options
from revstep.commands.pictures import Target
from revstep.commands.shared_options import (
    AsJson,
    Backend,
    Compat,
    Device,
    EncoderInput,
    Guidance,
    NegativePrompt,
    Precision,
    SamplerName,
    SamplerOptions,
    Steps,
    Threads,
    TimeGrid,
)
from revstep.engine.runtime.samples import picture_problem
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.machine import memory_bytes


@report_errors
def sample(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A .png (numbered if several) or .npy file; default: samples.png, or samples.npy "
            "where the data is no picture.",
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option("-n", help="Samples; default: one for each condition value.")
    ] = None,
    sampler: SamplerName = None,
    steps: Steps = None,
    seed: Annotated[
        int | None, typer.Option(help="Sample i uses seed + i; default: random, and printed.")
    ] = None,
    guidance: Guidance = 1.0,
    class_: Annotated[
        str | None, typer.Option("--class", help="Class labels: 3, or 0,3,5, or 0-9.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="name=value, a list, a range or a .npy file; repeatable."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text for the bundle's text encoder; repeatable.")
    ] = None,
    negative_prompt: NegativePrompt = None,
    input_: EncoderInput = None,
    set_: SamplerOptions = None,
    time_grid: TimeGrid = None,
    spacing: Annotated[str | None, typer.Option(hidden=True)] = None,  # its old name
    compat: Compat = None,
    clip: Annotated[
        bool | None, typer.Option("--clip/--no-clip", help="Clip the estimate; default: the spec.")
    ] = None,
    final: Annotated[
        str | None,
        typer.Option(help="Where the run ends: clean, or first (index 0); default: the spec."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Begin from this picture or .npy (image-to-image).")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="With --start: the share of the steps to run, (0, 1].")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Inpainting: white (1) keeps, black (0) is filled; a picture or .npy."),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(help="What --mask keeps: a picture or .npy; default: that of --start."),
    ] = None,
    sheet: Annotated[bool, typer.Option("--grid", help="One PNG with all samples.")] = False,
    columns: Annotated[int | None, typer.Option(help="Columns of the --grid.", min=1)] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples per network call; default: as many as fit.")
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Draw samples: a PNG, numbered PNGs, a grid, or a .npy array.

    Several condition values share the samples evenly and in order: --class 0-9 -n 100 --grid
    shows ten of each class, one class per row.
    """
    import revstep
    from revstep.engine.program.samplers.choice import chosen_sampler

    if columns is not None and not sheet:
        raise ValueError("--columns goes with --grid")
    check_negative(negative_prompt, guidance)
    if spacing is not None:
        if time_grid is not None:
            raise ValueError("--spacing is the old name of --time-grid; give --time-grid alone")
        typer.echo("WARNING: --spacing is now --time-grid", err=True)
    paths = {k: p for k, p in {"start": start, "known": known, "mask": mask}.items() if p}
    unread: dict[str, Any] = dict.fromkeys(paths, 0.0)  # read below, where the shape is known
    own = options(set_ or [])
    request = revstep.Request(  # what needs no bundle is checked before one is loaded
        n=n, sampler=sampler and chosen_sampler(sampler, own, None), steps=steps, seed=seed,
        guidance=guidance, strength=strength, grid=spacing or time_grid, compat=compat, clip=clip,
        final=final, **unread,
    )  # fmt: skip
    if output is not None and output.suffix.lower() == ".png":
        need("PIL", purpose="writing PNG")
    engine = revstep.load(
        bundle, backend=backend, device=device, precision=precision, threads=threads
    )
    spec = engine.spec
    values = {
        "conditions": given_conditions(spec, class_, condition or []),
        "inputs": given_inputs(spec, input_ or []),
    }
    given, n, groups = _shared(spec, values, prompt or [], n)
    shown = spec.decoder if spec.decoder is not None else spec
    shape, value_range = shown.shape, shown.value_range
    if output is None:
        output = _default_output(shape, value_range, sheet)
    target = Target(output, count=n, grid=sheet, shape=shape, value_range=value_range)
    inputs: dict[str, Any] = {name: read_input(path, name, spec) for name, path in paths.items()}
    chosen = chosen_sampler(sampler, own, spec.default_sampler)
    request = dataclasses.replace(
        request, n=n, sampler=chosen, negative_prompt=negative_prompt, **given, **inputs
    )

    begun = perf_counter()
    try:
        with progress_bars() as bars:
            bar = counter(bars.bar("Sample"))
            samples = engine.sample(request, batch_size=batch_size, progress=bar)
        elapsed = perf_counter() - begun
        across = columns or (n // groups if groups > 1 else math.ceil(math.sqrt(n)))
        target.write(samples.numpy(), [] if target.array else samples.pil(), across)
    except MemoryError as error:
        raise MemoryError(f"-n {n} is too many at once here; draw fewer per run") from error

    if as_json:
        result = {
            "files": target.paths,
            "n": n,
            "shape": list(samples.numpy().shape[1:]),
            "seeds": samples.seeds,
            "sampler": chosen.name,
            "steps": samples.steps,
            "network_calls": samples.calls,
            "guidance": guidance,
            "seconds": elapsed,
            "engine": engine.describe(),
        }
        print_json(result)
        return
    what = str(target.paths[0])
    if len(target.paths) > 1:
        what += f" ... {target.paths[-1].name}"
    count = "1 sample" if n == 1 else f"{n} samples"
    typer.echo(
        f"{what}: {count}, {chosen.name}-{samples.steps}, seed {samples.seeds[0]}, {elapsed:.2f} s"
    )


def _default_output(
    shape: tuple[int, ...], value_range: tuple[float, float] | None, grid: bool
) -> Path:
    problem = picture_problem(shape, value_range)
    if problem is None or grid:  # a grid of what is no picture is refused with the reason
        need("PIL", purpose="writing PNG")
        return Path("samples.png")
    typer.echo(f"no pictures, so they go to samples.npy: {problem}", err=True)
    return Path("samples.npy")


def _check_memory(spec: DenoiserSpec, n: int) -> None:
    shapes = [spec.shape] if spec.decoder is None else [spec.shape, spec.decoder.shape]
    needed, there = 4 * n * sum(math.prod(shape) for shape in shapes), memory_bytes()
    if there is not None and needed > there:
        raise ValueError(
            f"-n {n} samples take {size(needed)}, and this process may use {size(there)} of "
            "memory; draw fewer per run"
        )


def _shared(
    spec: DenoiserSpec,
    values: dict[str, dict[str, NDArray[Any]]],
    prompts: list[str],
    n: int | None,
) -> tuple[dict[str, Any], int, int]:
    """The request's values, one for each sample; the number of samples, and of groups of equals.

    ``values`` has conditions and inputs of encoders, by name.
    """
    named = {f"{kind[:-1]} {name!r}": v for kind, of in values.items() for name, v in of.items()}
    groups = max([len(v) for v in named.values()] + [len(prompts), 1])
    count = groups if n is None else n
    if count % groups:
        raise ValueError(f"-n {count} must be a multiple of the {groups} value(s) given")
    _check_memory(spec, count)  # before n rows of anything are made
    for what, length in [(k, len(v)) for k, v in named.items()] + [("--prompt", len(prompts) or 1)]:
        if length not in (1, groups):
            raise ValueError(
                f"{what} has {length} values and another {groups}; give equally many, or one"
            )
    found: dict[str, Any] = {
        kind: {name: np.repeat(v, count // len(v), axis=0) for name, v in of.items()} or None
        for kind, of in values.items()
    }
    if prompts:
        each = count // len(prompts)
        found["prompt"] = [text for text in prompts for _ in range(each)]
        if len(prompts) == 1:
            found["prompt"] = prompts[0]
    return found, count, groups
