"""``export_module``: any ``torch.nn.Module`` that denoises, as a bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.writer import check_target, seal, writing_bundle
from revstep.engine.checks import wrong_value
from revstep.engine.errors import ExportError
from revstep.engine.nearest import unknown_names
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.precisions import PRECISIONS
from revstep.export.progress import Progress, Stages
from revstep.export.sources.checkpoint import Checkpoint
from revstep.export.turns import TURNS

if TYPE_CHECKING:
    import torch


OPSETS = (18, 19, 20, 21, 22)  # from 23 the Attention operator breaks TensorRT-RTX's small heads
SMALL = 5_000_000  # parameters
MEASURED = (
    "fp16 and bf16 graphs are measured with ONNX Runtime, which is not installed; pip install "
    "'revstep[cpu]' ('revstep[cuda]' on a machine with a GPU), or export fp32 alone"
)
MISSING = "export needs {name}, which is not installed; pip install 'revstep[export]'"


def export_module(
    module: torch.nn.Module,
    spec: DenoiserSpec,
    path: str | Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    opset: int = 20,
    decoder: torch.nn.Module | None = None,
    encoders: Mapping[str, torch.nn.Module] | None = None,
    picture_encoder: torch.nn.Module | None = None,
    files: Mapping[str, str | Path] | None = None,
    output: str | int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    source: dict[str, str] | None = None,
) -> Bundle:
    """Exports a module and its reference outputs as the bundle ``path``.

    The reference is the module as it is given, in its own dtypes and on its own device (a copy in
    eval mode where a part of it trains); the graphs are made of a float32 copy on the CPU, which
    is held to it. The caller's module is not changed.

    Args:
        module: Takes (x, t, *conditions): float32 x (B, *spec.shape), float32 t (B,), and the
            spec's conditions in their order; returns (B, *spec.output_shape). Keyword-only
            parameters get the spec's inputs of their names; the tensor may be the only one in a
            tuple, dict or output object. Rows must not depend on each other. With weights of 16
            bits it may take x and float conditions in their dtype, with float64 weights t too; 16
            bits widen the parity bounds to theirs.
        spec: The denoiser's spec.
        path: The bundle's directory; it appears when all is done, or not at all.
        precisions: Of ``fp32``, ``fp16``, ``bf16``; one graph each.
        opset: ONNX opset, 18 to 22; 20 runs everywhere.
        decoder: Latents (B, *spec.shape) to images (B, *spec.decoder.shape), float32.
        encoders: ``Encoder.name`` -> a module of the encoder's inputs (B, *shape), in their order,
            which returns the tensor of its one condition or a tuple of tensors (B, *shape). What
            they give for the inputs' examples is what the denoiser is tried with.
        picture_encoder: Pictures (B, *spec.picture_encoder.shape) to latents (B, *spec.shape),
            without scale and shift.
        files: ``Tokenizer.file`` -> the tokenizer's file, which is copied.
        output: Which of the module's outputs, where it returns several: a name
            (``output="sample"``) or an index; the one tensor that there is needs none.
        overwrite: Replace an existing bundle.
        progress: Called with (description, done, total).
        source: Where the module comes from, for the provenance: ``{"kind": "factory", "name":
            "package.module:function"}``.

    Raises:
        TypeError: The module is no ``torch.nn.Module``, or the spec no ``DenoiserSpec``.
        ValueError: An unknown precision or opset.
        ExportError: The module does not fit the spec, can't be exported, holds NaN, or writing
            failed; the target is as it was.
    """
    for name in ("torch", "onnx", "onnxscript"):
        if find_spec(name) is None:
            raise ExportError(MISSING.format(name=name))
    from revstep.export.provenance import provenance, revstep_version
    from revstep.export.sources.parts import Job, count_units, make_parts

    precisions = check_arguments(path, precisions, opset, overwrite)
    if precisions != ("fp32",) and find_spec("onnxruntime") is None:
        raise ExportError(MEASURED)
    given = Checkpoint(
        module=module, spec=spec, decoder=decoder, encoders=encoders or {},
        picture_encoder=picture_encoder, files=files or {},
    )  # fmt: skip
    given.check()
    stages = Stages(progress, count_units(precisions, spec))
    parameters = sum(p.numel() for p in module.parameters())
    with TURNS, few_threads(parameters), writing_bundle(path, overwrite=overwrite) as work:
        job = Job(spec, precisions, opset, work, stages)
        made = make_parts(job, given, output)
        stages.start("writing the bundle")
        origin = provenance(parameters, opset=opset, source=source)
        if nodes := made.pop("precision"):
            origin["precision"] = nodes
        body = {"revstep": revstep_version(), "provenance": origin, **made, "engines": []}
        seal(work, body)
    bundle = Bundle.open(path)
    stages.advance("writing the bundle")
    return bundle


def check_arguments(
    path: str | Path, precisions: Sequence[str], opset: int, overwrite: bool
) -> tuple[str, ...]:
    """The precisions, in order, if an export of them to ``path`` may start; needs no PyTorch.

    Raises:
        ValueError: An unknown precision or opset.
        ExportError: ``path`` exists, and is no bundle or ``overwrite`` is off.
    """
    precisions = _checked_precisions(precisions)
    if opset not in OPSETS:
        raise wrong_value(opset, "opset", f"allowed: {OPSETS[0]} to {OPSETS[-1]}")
    check_target(Path(path).expanduser().resolve(), overwrite=overwrite)
    return precisions


def _checked_precisions(precisions: Sequence[str]) -> tuple[str, ...]:
    if isinstance(precisions, str):
        precisions = precisions.split(",")
    found = tuple(dict.fromkeys(p.strip() for p in precisions))
    others = [p for p in found if p not in PRECISIONS]
    if not found or others:
        raise ValueError(
            unknown_names("unknown precision", map(repr, others or ["(none)"]), PRECISIONS)
        )
    return tuple(p for p in PRECISIONS if p in found)


@contextlib.contextmanager
def few_threads(parameters: int) -> Iterator[None]:
    """One PyTorch thread for small networks: as fast, and ten times faster on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    if parameters < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
