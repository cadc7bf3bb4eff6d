"""``revstep export``: a trained denoiser to a bundle."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import Annotated

import typer

from revstep.commands.errors import report_errors
from revstep.commands.extras import need
from revstep.commands.output import print_json, progress_bars, size
from revstep.commands.parse import names
from revstep.commands.shared_options import AsJson
from revstep.engine.nearest import unknown_names
from revstep.engine.spec.precisions import PRECISIONS
from revstep.export import OPSETS

OPSET = 20


@report_errors
def export(
    factory: Annotated[
        str | None,
        typer.Argument(
            help="package.module:function that returns (module, DenoiserSpec).",
            metavar="FACTORY",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The bundle to write, name.revstep.")
    ] = ...,  # type: ignore[assignment]
    diffusers: Annotated[
        Path | None,
        typer.Option(help="A diffusers folder, of a pipeline or a denoiser, not a factory."),
    ] = None,
    null_class: Annotated[
        int | None,
        typer.Option(help="With --diffusers: the class that means none, for guidance.", min=0),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(help="A denoiser in an ONNX file, not a factory; --spec describes it."),
    ] = None,
    spec_file: Annotated[
        Path | None,
        typer.Option(
            "--spec",
            help="With --onnx: the spec in TOML; `revstep inspect --write` makes one.",
        ),
    ] = None,
    size_: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="With --diffusers: rows and columns, 768x512 (of a video 81x480x832), in pixels "
            "where it has a VAE; default: its config's.",
            metavar="HxW",
        ),
    ] = None,
    sequence_length: Annotated[
        int | None,
        typer.Option(help="With --diffusers: length of the text's embeddings.", min=1),
    ] = None,
    module_output: Annotated[
        str | None,
        typer.Option(
            help="Which output, where a factory's module returns several: a name or an index; with "
            "--onnx: a name.",
            metavar="NAME",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Graphs to write, comma-separated: fp32, fp16, bf16.")
    ] = "fp32",
    opset: Annotated[
        int | None,
        typer.Option(
            help="ONNX opset; 20, or with --onnx the file's own, at least 18.",
            min=OPSETS[0],
            max=OPSETS[-1],
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing bundle.")] = False,
    as_json: AsJson = False,
) -> None:
    """Export a denoiser to a bundle: ONNX graphs, the spec, reference vectors."""
    if (factory, diffusers, onnx).count(None) != 2:
        raise ValueError(
            "name one of: a factory (package.module:function), --diffusers DIR, --onnx FILE"
        )
    if (onnx is None) != (spec_file is None):
        raise ValueError(
            "--onnx FILE and --spec FILE go together: `revstep inspect model.onnx --write "
            "spec.toml` makes a spec to start from"
        )
    if null_class is not None and diffusers is None:
        raise ValueError("--null-class goes with --diffusers; a factory's spec has its own")
    for name, given in (("--size", size_), ("--sequence-length", sequence_length)):
        if given is not None and diffusers is None:
            raise ValueError(f"{name} goes with --diffusers; a factory's spec has its own shapes")
    if module_output is not None and diffusers is not None:
        raise ValueError("--module-output goes with a factory; a --diffusers network has one")
    sizes = None if size_ is None else _sizes(size_)
    precisions = names(precision, "--precision")
    if others := [p for p in precisions if p not in PRECISIONS]:
        raise ValueError(unknown_names("unknown --precision", others, PRECISIONS))
    need("torch", "onnx", "onnxscript", purpose="export")
    if onnx is not None:
        need("onnxruntime", purpose="export --onnx")

    from revstep.engine.bundle.writer import check_target
    from revstep.export import export_diffusers, export_module, export_onnx
    from revstep.export.sources.factory import load_checkpoint

    check_target(output.expanduser().resolve(), overwrite=overwrite)  # before the user's own work

    with progress_bars() as bars, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its internals
        report = bars.bar("Export")
        report("loading", 0, 0)
        if diffusers is not None:
            bundle = export_diffusers(
                diffusers,
                output,
                precisions=precisions,
                opset=opset or OPSET,
                null_class=null_class,
                size=sizes,
                sequence_length=sequence_length,
                overwrite=overwrite,
                progress=report,
            )
        elif onnx is not None:
            assert spec_file is not None
            bundle = export_onnx(
                onnx,
                spec_file,
                output,
                output=module_output,
                precisions=precisions,
                opset=opset,
                overwrite=overwrite,
                progress=report,
            )
        else:
            assert factory is not None
            found = load_checkpoint(factory)
            bundle = export_module(
                found.module,
                found.spec,
                output,
                precisions=precisions,
                opset=opset or OPSET,
                decoder=found.decoder,
                encoders=found.encoders,
                picture_encoder=found.picture_encoder,
                files=found.files,
                overwrite=overwrite,
                progress=report,
                output=_output(module_output),
                source={"kind": "factory", "name": factory}
                | ({} if module_output is None else {"output": module_output}),
            )
    total = sum(entry["bytes"] for entry in bundle.manifest["files"].values())
    if as_json:
        print_json({"path": bundle.path, "precisions": bundle.precisions, "bytes": total})
        return
    typer.echo(f"{bundle.path}: {', '.join(bundle.precisions)}, {size(total)}")
    typer.echo(f"Next: revstep compile {shlex.quote(str(bundle.path))}")


def _sizes(text: str) -> tuple[int, ...]:
    """The numbers of ``768x512``."""
    parts = text.lower().split("x")
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"--size must be numbers such as 768x512; got {text!r}")
    return tuple(map(int, parts))


def _output(text: str | None) -> str | int | None:
    """An index where it is a number, else a name."""
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else text
