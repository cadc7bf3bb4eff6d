"""What is checked before the slow export: weights, shapes, and that rows stand alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from revstep.engine.backends.module.call import CallError, ModuleCall
from revstep.engine.backends.module.output import OutputError
from revstep.engine.errors import ExportError
from revstep.engine.program.points import point
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.prediction import edm_input_scale
from revstep.export.module.example_conditions import example_condition
from revstep.export.module.given import Form, calling

Arrays = tuple[np.ndarray[Any, Any], ...]

__all__ = [
    "ROW_TOLERANCE",
    "called_module",
    "check_kind",
    "check_module",
    "example_inputs",
    "other_batch",
    "run_module",
    "scan_weights",
]

AS_IT_IS = Form()
ROW_TOLERANCE = 1e-3  # of the output's RMS: batched GEMMs differ by 1e-6, mixed rows by 0.1
CALL = "revstep calls module(x, t, *conditions)"
LOOKUP = ("indices", "indexing")  # what torch says of a float where it needs whole numbers


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
    tensors: list[tuple[str, torch.Tensor, bool]]
    tensors = [(n, p, True) for n, p in module.named_parameters()]
    tensors += [(n, b, False) for n, b in module.named_buffers()]  # a mask may hold -inf
    for name, tensor, weight in tensors:
        if tensor.is_meta:
            raise ExportError(
                f"the weight {name!r} is on the meta device, so it has no values; load the "
                "checkpoint first (load_state_dict(..., assign=True))"
            )
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        value = tensor.detach()
        bad = torch.isnan(value) | (torch.isinf(value) & weight)
        if bool(bad.any()):
            raise ExportError(
                f"the weight {name!r} {tuple(value.shape)} holds {int(bad.sum())} NaN or infinite "
                "values; nothing was exported: load a sound checkpoint"
            )


def example_inputs(spec: DenoiserSpec, rows: int, seed: int = 0) -> Arrays:
    """(x, t, *conditions) of ``rows`` noisy samples at times spread over the schedule.

    x = c_in (alpha y + sigma z) with y ~ N(0, 1/4); rows of another ``rows`` differ.
    """
    rng = np.random.default_rng(seed)
    indices = np.unique(np.round(np.linspace(0, spec.schedule.steps - 1, rows))).astype(int)
    times = spec.schedule.from_index(indices[np.arange(rows) % len(indices)])
    at = [point(spec, float(t)) for t in times]
    alpha, sigma = (
        np.array([getattr(p, name) for p in at]).reshape(-1, *(1 for _ in spec.shape))
        for name in ("alpha", "sigma")
    )
    c_in = np.ones_like(sigma)
    if spec.prediction == "edm":
        c_in = np.array([edm_input_scale(p.sigma, spec.sigma_data) for p in at])
        c_in = c_in.reshape(sigma.shape)
    y, z = rng.standard_normal((2, rows, *spec.shape))
    x = (c_in * (alpha * 0.5 * y + sigma * z)).astype(np.float32)
    t = np.array([p.time for p in at], dtype=np.float32)
    return (x, t, *(example_condition(c, rows, rng) for c in spec.conditions))


def run_module(
    module: torch.nn.Module, inputs: Arrays, spec: DenoiserSpec, form: Form = AS_IT_IS
) -> torch.Tensor:
    """The module's output on numpy inputs, checked to be one float tensor of the right shape.

    Args:
        module: In eval mode; it runs without gradients, and never in inference mode.
        inputs: (x, t, *conditions), which it may change: it gets copies.
        spec: Its spec.
        form: The dtypes and the device of the inputs that it takes.

    Returns:
        The output, float32 on the CPU.

    Raises:
        ExportError: It fails, or returns something else.
    """
    given = _describe(inputs, spec)
    try:
        with calling(form.device):
            out: object = module(*form.place(*(torch.from_numpy(i.copy()) for i in inputs)))
    except OutputError as error:
        raise ExportError(f"for {given}, {error}") from error
    except Exception as error:  # a user's module may raise anything
        raise ExportError(
            f"the module failed on {given}: {type(error).__name__}: {error}. {CALL} in the spec's "
            f"order, float32 t of shape (B,): adapt it in the factory{_lookup_hint(error, spec)}"
            f"{_half_hint(error, spec)}{_example_hint(spec)}"
        ) from error
    if not isinstance(out, torch.Tensor):
        raise ExportError(
            f"the module returned {type(out).__name__} for {given}, expected one tensor; wrap it "
            "in the factory (return_dict=False, [0])"
        )
    want = (len(inputs[0]), *spec.output_shape)
    if tuple(out.shape) != want:
        raise ExportError(
            f"the module returned shape {tuple(out.shape)} for {given}, expected {want}"
            f"{' (twice the channels: learned_variance)' if spec.learned_variance else ''}; "
            "mend the spec's shape or learned_variance, or the module"
        )
    if not out.is_floating_point():
        raise ExportError(f"the module returned {out.dtype} for {given}, expected float32")
    return out.detach().to(device="cpu", dtype=torch.float32)


def _lookup_hint(error: Exception, spec: DenoiserSpec) -> str:
    text = str(error)
    if any(word in text for word in LOOKUP) and "long" in text.lower():
        return (
            f". Times are float32: if the module looks {spec.time.name!r} up in a table, call it "
            "with t.round().long() in a wrapper's forward"
        )
    return ""


def _example_hint(spec: DenoiserSpec) -> str:
    """That conditions may be tried with values of the user's own, where they were not."""
    made_up = [c.name for c in spec.conditions if c.example is None and c.allowed is None]
    if not made_up:
        return ""
    return (
        f". Values of {', '.join(made_up)} are made up: N(0, 1), 0 of integers, masks of both "
        "values; if the module can't take such, give the spec's Condition(example=...) some that "
        "it can"
    )


def _half_hint(error: Exception, spec: DenoiserSpec) -> str:
    halves = [c for c in spec.conditions if "float16" in c.dtype]
    if not halves or not any(word in str(error) for word in ("Half", "BFloat16", "dtype")):
        return ""
    named = " and ".join(f"{c.name} as {c.dtype}" for c in halves)
    return f". The spec has the module take {named}; dtype='float32' takes arrays in half too"


def _describe(inputs: Arrays, spec: DenoiserSpec) -> str:
    names = (spec.name, spec.time.name, *(c.name for c in spec.conditions))
    return ", ".join(
        f"{name} {value.dtype} {value.shape}" for name, value in zip(names, inputs, strict=True)
    )


def check_module(module: torch.nn.Module, spec: DenoiserSpec) -> None:
    """Runs the module at batches 2, 3 and 1: shapes, any batch, no randomness, rows alone.

    Raises:
        ExportError: What was got, what was expected, and how to mend it.
    """
    inputs = example_inputs(spec, 3)
    two = run_module(module, tuple(i[:2] for i in inputs), spec)
    three = other_batch(module, inputs, spec)
    one = other_batch(module, tuple(i[:1] for i in inputs), spec)
    if not bool(torch.isfinite(three).all()):
        raise ExportError(
            "the module's output holds NaN or infinity for finite inputs "
            f"({_describe(inputs, spec)}); nothing was exported{_example_hint(spec)}"
        )
    again = run_module(module, inputs, spec)
    if not torch.equal(three, again):
        raise ExportError(
            "the module returned two different outputs for the same inputs; a denoiser draws no "
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


def other_batch(module: torch.nn.Module, inputs: Arrays, spec: DenoiserSpec) -> torch.Tensor:
    """``run_module`` at another batch than the first, which the module may fix.

    Raises:
        ExportError: As ``run_module``, with what fixes a batch.
    """
    rows = len(inputs[0])
    try:
        return run_module(module, inputs, spec)
    except ExportError as error:
        causes = "a number in a reshape"
        if rows == 1:
            causes = "squeeze() without a dimension, BatchNorm in train mode, " + causes
        raise ExportError(
            f"the module runs at batch 2 but not at batch {rows}, so its batch is baked in "
            f"({causes}?): {error}"
        ) from error
