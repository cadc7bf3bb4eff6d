"""``revstep compile``: a bundle's graph for a runtime, checked against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from revstep.commands.choices import print_choice
from revstep.commands.errors import describe, exit_code, report_errors
from revstep.commands.output import err, print_json, progress_bars
from revstep.commands.parse import byte_count, names, whole_numbers

if TYPE_CHECKING:
    from revstep.engine.bundle.entry import CompiledEntry
    from revstep.export.targets.jobs import Outcome


@report_errors
def compile_(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compile for: cpu (this machine's processor: the fastest of ONNX "
            "Runtime, OpenVINO, graph rewrites and thread counts, by measuring), onnxruntime (a "
            "check only), tensorrt (for the GPU of this machine), tensorrt_rtx (for GeForce and "
            "RTX GPUs, which need not be here); both build plans of encoders and decoder too. May "
            "be given several times. Default: cpu; where an NVIDIA GPU is, or for fp16, "
            "onnxruntime."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Which graph: fp32, fp16, bf16; several with commas. cpu: fp32, auto (bf16 too, "
            "where the processor has it and a whole run agrees), or bf16."
        ),
    ] = "fp32",
    batch: Annotated[
        str | None,
        typer.Option(
            help="Network rows, as 1,8,64. TensorRT: one static plan each; cpu: one choice each "
            "(default 1,16). Guidance takes two rows per sample.",
            metavar="ROWS",
        ),
    ] = None,
    dynamic: Annotated[
        str | None,
        typer.Option(
            help="TensorRT: one plan for a range of rows, tuned for the middle one, as 1:8:64. "
            "Off that point it is slower than a static one.",
            metavar="MIN:OPT:MAX",
        ),
    ] = None,
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels",
            help="Put the step's GPU kernels into the bundle, so that sampling there needs neither "
            "Triton nor a C compiler. Without --target nothing else is compiled.",
        ),
    ] = False,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="tensorrt_rtx and --kernels: the GPUs to build for, as sm_86,sm_89. Default: "
            "tensorrt_rtx all that it knows from sm_80 on; --kernels sm_80, sm_90, sm_100, sm_120."
        ),
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="TensorRT: max GPU memory for scratch space, as 512M or 2G.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(help="TensorRT: 0 (fast build) to 5 (thorough).", min=0, max=5)
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on after a failure; it is reported at the end.")
    ] = False,
    forward_bound: Annotated[
        float | None,
        typer.Option(help="Largest max error of one forward, relative to the reference's RMS."),
    ] = None,
    run_bound: Annotated[
        float | None,
        typer.Option(help="Largest RMS error of a DDIM-20 run, relative to the reference's RMS."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the network; default: all usable cores; cpu: 1 to all, by measuring.",
            min=1,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="cpu: seconds of timing (default 30); opening and checking what is timed comes on "
            "top.",
            min=0.1,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the result as JSON; of cpu, and of several: {compiled: [...], "
            "failed: [...], kernels}.",
        ),
    ] = False,
) -> None:
    """Compile a bundle and check it against its reference; a failed check changes nothing."""
    from revstep.export.targets.jobs import compile_jobs, plan_jobs
    from revstep.export.targets.options import BuildOptions, Profile

    precisions = names(precision, "--precision")
    targets = ["kernels"] if kernels else []
    if target or not kernels:
        targets += names(",".join(target or [_default(precisions)]), "--target")
    options = BuildOptions(
        gpus=tuple(names(gpu, "--gpu")) if gpu is not None else (),
        memory_limit=None if memory_limit is None else byte_count(memory_limit, "--memory-limit"),
        optimization_level=optimization_level,
    )
    profile = None
    if dynamic is not None:
        rows = whole_numbers(dynamic.replace(":", ","), "--dynamic")
        if len(rows) != 3:
            raise ValueError(f"--dynamic is written min:opt:max, as 1:8:64; got {dynamic!r}")
        profile = Profile(*rows)
    batches = whole_numbers(batch, "--batch") if batch is not None else []
    jobs = plan_jobs(targets, precisions, batches, profile)
    bounds = {
        name: value
        for name, value in (("forward", forward_bound), ("ddim20", run_bound))
        if value is not None
    }
    with progress_bars() as bars:
        outcomes = compile_jobs(
            bundle,
            jobs,
            keep_going=keep_going,
            bounds=bounds or None,
            threads=threads,
            seconds=seconds,
            options=options,
            progress=lambda job: bars.bar(f"Compile {job}" if len(jobs) > 1 else "Compile"),
        )
    _print(outcomes, as_json=as_json)
    for outcome in outcomes:
        if outcome.error is not None:
            raise typer.Exit(exit_code(outcome.error))


def _default(precisions: list[str]) -> str:
    """The target where none is named."""
    from revstep.engine.devices.choose import driver_gpus

    return "onnxruntime" if driver_gpus() or "fp16" in precisions else "cpu"


def _print(outcomes: list[Outcome], *, as_json: bool) -> None:
    from revstep.engine.bundle.entry import CompiledEntry
    from revstep.engine.bundle.kernels import KernelFiles

    kernels = next((o.made for o in outcomes if isinstance(o.made, KernelFiles)), None)
    made = [o.made for o in outcomes if isinstance(o.made, CompiledEntry | tuple)]
    entries = [e for one in made for e in (one if isinstance(one, tuple) else (one,))]
    failed = [(str(o.job), describe(o.error)) for o in outcomes if o.error is not None]
    if as_json and len(outcomes) == 1 and isinstance(made[0] if made else None, CompiledEntry):
        print_json(entries[0].to_dict())
    elif as_json:
        print_json(
            {
                "compiled": [entry.to_dict() for entry in entries],
                "failed": [{"job": job, "error": error} for job, error in failed],
                "kernels": None if kernels is None else kernels.to_dict(),
            }
        )
    else:
        if kernels is not None:
            typer.echo(f"kernels: {kernels}")
        for entry in entries:
            if entry.choice is not None:
                print_choice(entry)
                continue
            typer.echo(entry_line(entry))
            for line in parity_lines(entry.parity):
                typer.echo(f"  {line}")
    for job, error in failed:
        err().print(f"error: {job}: {error}", markup=False, soft_wrap=True)


def entry_line(entry: CompiledEntry) -> str:
    """A compiled entry on one line: what it is of, runtime, precision, device, rows."""
    of = "" if entry.part is None else f"{entry.part}: "
    text = f"{of}{entry.runtime} {entry.version}, {entry.precision}, {entry.device}"
    if entry.tuned is None:
        return text
    low, high = entry.batch
    rows = f"batch {high}" if low == high else f"batch {low} to {high}, tuned for {entry.tuned}"
    return f"{text}, {rows}"


def parity_lines(parity: dict[str, Any] | str) -> list[str]:
    """The figures of a parity check, one per line."""
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
