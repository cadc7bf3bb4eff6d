"""``revstep info``: what is inside a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from revstep.commands.choices import print_choice
from revstep.commands.compile import entry_line, parity_lines
from revstep.commands.errors import report_errors
from revstep.commands.output import out, print_json, size

if TYPE_CHECKING:
    from revstep.engine.bundle.reader import Bundle
    from revstep.engine.spec.denoiser import Condition
    from revstep.engine.spec.encoder import Encoder
    from revstep.engine.spec.sampler_choice import SamplerChoice


@report_errors
def info(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", metavar="BUNDLE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Print what is inside a bundle, after checking every file's hash."""
    from revstep.engine.bundle.reader import Bundle

    opened = Bundle.open(bundle)
    if as_json:
        print_json({"path": opened.path, **opened.manifest})
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _rows(opened):
        table.add_row(name, value)
    out().print(table)
    denoisers = sorted(opened.compiled, key=lambda e: (e.batch, e.precision != "fp32"))
    for entry in (*denoisers, *opened.compiled_parts):
        if entry.choice is not None:
            print_choice(entry)


def _rows(bundle: Bundle) -> list[tuple[str, str]]:
    from revstep.engine.bundle.kernels import KernelFiles

    spec, manifest = bundle.spec, bundle.manifest
    provenance = manifest["provenance"]
    rows = [
        ("bundle", f"{bundle.path} (revstep {manifest['revstep']}, all hashes match)"),
        ("state", f"{spec.name} {_shape(spec.shape)} float32"),
        ("time", f"{spec.time.name}: {spec.time.kind}"),
    ]
    for c in spec.conditions:
        classes = f", {c.classes} classes" if c.classes is not None else _limits(c)
        null = "no null value" if c.null is None else f"null {c.null}"
        by = next((e.name for e in spec.encoders if c.name in e.conditions), None)
        null = null if by is None else f"by encoder {by}" + ("" if c.null is None else f", {null}")
        rows.append(("condition", f"{c.name} {_shape(c.shape)} {c.dtype}{classes}, {null}"))
    learned = ", learned variance" if spec.learned_variance else ""
    schedule = ", ".join(f"{k} {v}" for k, v in spec.schedule.to_dict().items())
    rows += [
        ("prediction", spec.prediction + learned),
        ("schedule", schedule),
        ("sampler", _sampler(spec.default_sampler)),
        ("sampling", f"grid {spec.grid}, clip {'on' if spec.clip else 'off'}"),
        ("batch", f"{spec.batch[0]} to {spec.batch[1]} network rows"),
    ]
    if spec.value_range is not None:
        rows.append(("values", f"{spec.value_range[0]:g} to {spec.value_range[1]:g}"))
    rows += [("encoder", _encoder(e)) for e in spec.encoders]
    if spec.decoder is not None:
        tile = spec.decoder.tile
        tiles = "" if tile is None else f", in tiles of {tile[0]} x {tile[1]} latents"
        scale = f"scale {spec.decoder.scale:g}"
        rows.append(("decoder", f"to {_shape(spec.decoder.shape)}, {scale}{tiles}"))
    if spec.picture_encoder is not None:
        rows.append(("picture encoder", f"of {_shape(spec.picture_encoder.shape)}"))
    kernels = KernelFiles.of(bundle)
    for name, file in manifest["files"].items():
        if kernels is not None and name in kernels.names:
            continue
        rows.append(("file", f"{name} {size(file['bytes'])}"))
    if kernels is not None:
        rows.append(("kernels", f"{kernels}, {size(kernels.bytes)}"))
    tools = ", ".join(f"{k} {v}" for k, v in provenance.get("tools", {}).items())
    rows.append(("exported", f"{provenance.get('created', '?')} with {tools}"))
    if "parameters" in provenance:
        rows.append(("parameters", f"{provenance['parameters']:,}"))
    for precision, nodes in provenance.get("precision", {}).items():
        rows.append((precision, _nodes(nodes)))
    for entry in (*bundle.compiled, *bundle.compiled_parts):
        if entry.choice is not None:  # has a table
            continue
        rows.append(("compiled", entry_line(entry)))
        rows += [("", line) for line in parity_lines(entry.parity)]
    if not bundle.compiled:
        rows.append(("compiled", f"nothing yet: revstep compile {bundle.path}"))
    return rows


def _sampler(choice: SamplerChoice) -> str:
    """``unipc, order 3, compat diffusers``: what runs where nobody names one."""
    compat = [] if choice.compat is None else [f"compat {choice.compat}"]
    return ", ".join([choice.name, *(f"{k} {v}" for k, v in choice.options.items()), *compat])


def _encoder(encoder: Encoder) -> str:
    """``text: tokens (77) int64, from a prompt -> encoder_hidden_states``."""
    prompted = {name for t in encoder.tokenizers for name in (t.ids, t.mask)}
    inputs = [
        f"{c.name} {_shape(c.shape)} {c.dtype}{', from a prompt' if c.name in prompted else ''}"
        for c in encoder.inputs
    ]
    return f"{encoder.name}: {', '.join(inputs)} -> {', '.join(encoder.conditions)}"


def _nodes(found: dict[str, Any]) -> str:
    """How many nodes of a graph compute in 16 bits, and why the others don't."""
    why = ", ".join(f"{count} {reason}" for reason, count in found["fp32"].items())
    kept = sum(found["fp32"].values())
    return f"{found['nodes']} nodes in 16 bits, {kept} float32{f': {why}' if why else ''}"


def _limits(condition: Condition) -> str:
    if condition.limits is None:
        return ""
    (low, high), ends = condition.limits, np.iinfo(condition.interface)
    if low == ends.min:
        return f", at most {high}"
    return f", at least {low}" if high == ends.max else f", {low} to {high}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
