"""What is checked before the slow export: weights, shapes, and that rows stand alone."""

from __future__ import annotations

import torch

from revstep.engine.backends.module.call import CallError, ModuleCall
from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.examples import example_inputs
from revstep.export.module.run import (
    described,
    example_hint,
    other_batch,
    run_decoder,
    run_module,
)

ROW_TOLERANCE = 1e-3  # of the output's RMS: batched GEMMs differ by 1e-6, mixed rows by 0.1


def check_kind(module: object, what: str) -> None:
    """Refuses what is no module whose python code can be traced.

    Raises:
        TypeError: No ``torch.nn.Module``.
        ExportError: A TorchScript module.
    """
    if not isinstance(module, torch.nn.Module):
        hint = " (the class: make one)" if isinstance(module, type) else ""
        raise TypeError(
            f"{what} must be a torch.nn.Module; got {type(module).__name__}{hint}; wrap a function "
            "in a module whose forward calls it"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            f"{what} is a TorchScript module ({type(module).__name__}), which torch.export can't "
            "trace; give the torch.nn.Module it was made from, with its state_dict loaded"
        )


def called_module(
    module: torch.nn.Module, spec: DenoiserSpec, output: str | int | None
) -> ModuleCall:
    """The module as revstep calls it.

    Raises:
        ExportError: Its ``forward`` can't take the spec's inputs.
        TypeError: ``output`` is no name, index or None.
    """
    try:
        return ModuleCall(module, spec, output)
    except CallError as error:
        raise ExportError(str(error)) from error


def scan_weights(module: torch.nn.Module) -> None:
    """Refuses weights without values, NaN in weights and buffers, infinity in weights.

    Raises:
        ExportError: Naming the tensor.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise ExportError(
                f"the weight {name!r} is on the meta device, so it has no values; load the "
                "checkpoint first (load_state_dict(..., assign=True))"
            )
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        value = tensor.detach()
        bad = torch.isnan(value)
        if isinstance(tensor, torch.nn.Parameter):  # a buffer may be a mask with -inf
            bad |= torch.isinf(value)
        if bool(bad.any()):
            raise ExportError(
                f"the weight {name!r} {tuple(value.shape)} holds {int(bad.sum())} NaN or infinite "
                "values; nothing was exported: load a sound checkpoint"
            )


def check_module(module: torch.nn.Module, spec: DenoiserSpec) -> None:
    """Runs the module at batches 2, 3 and 1: shapes, any batch, no randomness, rows alone.

    Raises:
        ExportError: What was got, what was expected, and how to fix it.
    """
    inputs = example_inputs(spec, 3)
    two = run_module(module, tuple(i[:2] for i in inputs), spec)
    three = other_batch(module, inputs, spec)
    one = other_batch(module, tuple(i[:1] for i in inputs), spec)
    if not bool(torch.isfinite(three).all()):
        raise ExportError(
            "the module's output holds NaN or infinity for finite inputs "
            f"({described(inputs, spec)}); nothing was exported{example_hint(spec)}"
        )
    again = run_module(module, inputs, spec)
    if not torch.equal(three, again):
        raise ExportError(
            "the module returned two different outputs for the same inputs; a denoiser uses no "
            "random numbers (is dropout outside train/eval control?)"
        )
    scale = max(float(three.square().mean().sqrt()), 1e-12)
    for part in (two, one):
        change = float((part - three[: len(part)]).abs().max()) / scale
        if change > ROW_TOLERANCE:
            raise ExportError(
                f"the module's rows depend on each other: a row's output changes by {change:.2g} "
                "of its RMS with the rows beside it, and samples share network calls. Does it "
                "normalise (BatchNorm without running statistics) or attend over the batch axis, "
                "or branch on the batch?"
            )


def check_decoder(decoder: torch.nn.Module | None, spec: DenoiserSpec) -> None:
    """Runs the decoder at batch 2.

    Raises:
        ExportError: It does not fit the spec's decoder.
    """
    if (decoder is None) != (spec.decoder is None):
        have = "the spec describes a decoder but no decoder module was given"
        if spec.decoder is None:
            have = "a decoder module was given but spec.decoder is None"
        raise ExportError(f"{have}; give both or neither")
    if decoder is not None:
        run_decoder(decoder, example_inputs(spec, 2)[0], spec)
