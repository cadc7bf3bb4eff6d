"""``revstep generate``: many samples into files, on this machine or a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from revstep.commands.conditions import check_negative, given_conditions, given_inputs
from revstep.commands.errors import report_errors
from revstep.commands.extras import need
from revstep.commands.output import counter, print_json, progress_bars
from revstep.commands.parse import options
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


@report_errors
def generate(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    n: Annotated[int, typer.Option("-n", help="Samples in all.", min=1)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A folder; a job that is there goes on.")
    ],
    format_: Annotated[
        str, typer.Option("--format", help="parquet: samples, seeds and conditions; or npy.")
    ] = "parquet",
    shard_size: Annotated[
        int | None,
        typer.Option(help="Samples per file; default: 1024, or what 256 MiB hold.", min=1),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Sample i uses seed + i; default: drawn, or that of the job there."),
    ] = None,
    sampler: SamplerName = None,
    steps: Steps = None,
    guidance: Guidance = 1.0,
    class_: Annotated[
        str | None, typer.Option("--class", help="Class labels, in turn: 3, or 0,3,5, or 0-9.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="name=value, a list, a range or a .npy file, in turn; repeatable."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text for the bundle's text encoder, in turn.")
    ] = None,
    negative_prompt: NegativePrompt = None,
    input_: EncoderInput = None,
    set_: SamplerOptions = None,
    time_grid: TimeGrid = None,
    compat: Compat = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Draw on a Ray cluster, or on this machine as one.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="With --ray: the cluster; default: Ray's own rule.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="With --ray: processes at most; default: what fits.", min=1)
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Draw many samples into a folder of Parquet or .npy files.

    A job that was killed goes on where it was when the same command is given again. Sample i has
    the same bits however the job is cut, run or continued: every network call has the same number
    of rows. Sample i uses condition value i mod m of the m that are given.
    """
    import revstep
    from revstep.engine.program.samplers.choice import chosen_sampler
    from revstep.engine.program.steps import default_steps
    from revstep.serve.bulk.generate import generate as run
    from revstep.serve.bulk.plan import Plan, shard_size_for

    if format_ == "parquet":
        need("pyarrow", purpose="writing Parquet")
    if ray:
        need("ray", "pandas", purpose="--ray")
    for name, given in (("--address", address), ("--workers", workers)):
        if given is not None and not ray:
            raise ValueError(f"{name} goes with --ray")
    check_negative(negative_prompt, guidance)
    engine = revstep.load(
        bundle, backend=backend, device=device, precision=precision, threads=threads,
        reproducible=True,
    )  # fmt: skip
    chosen = chosen_sampler(sampler, options(set_ or []), engine.spec.default_sampler)
    plan = Plan(
        n=n, seed=seed or 0, sampler=chosen.name, options=dict(chosen.options),
        steps=steps or default_steps(engine.spec, engine.spec.grid_of(time_grid)),
        guidance=guidance, grid=time_grid, compat=compat or chosen.compat,
        conditions=given_conditions(engine.spec, class_, condition or []),
        inputs=given_inputs(engine.spec, input_ or []),
        prompts=tuple(prompt or ()), negative_prompt=negative_prompt,
        format=format_, shard_size=shard_size or shard_size_for(engine),
    )  # fmt: skip
    folder = output.absolute()
    begun = perf_counter()
    with progress_bars() as bars:
        told: dict[str, Any] = {"progress": counter(bars.bar("Samples"))}
        if ray:
            told["draw"] = _on_ray(engine, folder, address, workers)
        outcome = run(engine, bundle, plan, folder, draw_new_seed=seed is None, **told)
    elapsed = perf_counter() - begun
    if as_json:
        print_json(
            {
                "folder": folder, "files": outcome.files, "written": outcome.written,
                "n": n, "drawn": outcome.samples, "seed": outcome.seed, "seconds": elapsed,
            }
        )  # fmt: skip
        return
    there = outcome.files - outcome.written
    before = f", {there} of them from before" if there else ""
    typer.echo(
        f"{folder}: {n} samples in {outcome.files} files{before}; seed {outcome.seed}, "
        f"{elapsed:.1f} s"
    )


def _on_ray(engine: Any, folder: Path, address: str | None, workers: int | None) -> Any:
    """What draws on a cluster: one that is there, or one of this machine."""
    from revstep.serve.ray.bulk import draw_with_ray
    from revstep.serve.ray.cluster import connect, workers_that_fit

    connect(address)
    described = engine.describe()
    gpus = 1.0 if str(described.get("device", "cpu")).startswith("cuda") else 0.0
    cpus = 1.0 if gpus else float(described.get("threads", 1))
    workers = workers or workers_that_fit(cpus, gpus)
    return draw_with_ray(engine, folder, workers=workers, cpus=cpus, gpus=gpus)
