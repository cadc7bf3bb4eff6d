"""One run of the caller's module or decoder on numpy inputs, its output checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from revstep.engine.backends.module.output import OutputError
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.errors import ExportError
from revstep.engine.parts.tiles import call_shapes, decode_tiles
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.examples import Arrays
from revstep.export.module.form import Form, calling

AS_IT_IS = Form()
CALL = "revstep calls module(x, t, *conditions)"
CALL_TWO_TIMES = "revstep calls module(x, t, second time, *conditions)"
LOOKUP = ("indices", "indexing")  # what torch says of a float where it needs whole numbers


class GivenDenoiser:
    """Runs a module in eval mode on numpy buffers, in its own form, and checks the output."""

    def __init__(self, module: torch.nn.Module, spec: DenoiserSpec, form: Form) -> None:
        self.spec = spec
        self._module = module
        self._form = form

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the module from ``buffers`` into ``buffers.out``."""
        inputs = tuple(buffers.inputs(self.spec).values())

        def call() -> None:
            buffers.out[:] = run_module(self._module, inputs, self.spec, self._form).numpy()

        return call

    def describe(self) -> dict[str, Any]:
        """The form: device and dtype."""
        return {"device": str(self._form.device), "dtype": str(self._form.dtype)}


def run_module(
    module: torch.nn.Module, inputs: Arrays, spec: DenoiserSpec, form: Form = AS_IT_IS
) -> torch.Tensor:
    """The module's output on numpy inputs, checked to be one float tensor of the right shape.

    The module, in eval mode, runs without gradients and never in inference mode; it may change its
    inputs, which are copies in its form.

    Returns:
        The output, float32 on the CPU.

    Raises:
        ExportError: It fails, or returns something else.
    """
    fed = described(inputs, spec)
    try:
        with calling(form.device):
            fed_tensors = [torch.from_numpy(i.copy()) for i in inputs]
            out: object = module(*form.place(*fed_tensors, times=len(spec.times)))
    except OutputError as error:
        raise ExportError(f"for {fed}, ", *error.args) from error
    except Exception as error:  # a user's module may raise anything
        call = CALL if spec.second_time is None else CALL_TWO_TIMES
        raise ExportError(
            f"the module failed on {fed}: {type(error).__name__}: {error}. {call} in the spec's "
            f"order, float32 t of shape (B,): adapt it in the factory{_lookup_hint(error, spec)}"
            f"{_half_hint(error, spec)}{example_hint(spec)}"
        ) from error
    if not isinstance(out, torch.Tensor):
        raise ExportError(
            f"the module returned {type(out).__name__} for {fed}, expected one tensor; wrap it "
            "in the factory (return_dict=False, [0])"
        )
    want = (len(inputs[0]), *spec.output_shape)
    if tuple(out.shape) != want:
        raise ExportError(
            f"the module returned shape {tuple(out.shape)} for {fed}, expected {want}"
            f"{' (twice the channels: learned_variance)' if spec.learned_variance else ''}; "
            "fix the spec's shape or learned_variance, or the module"
        )
    if not out.is_floating_point():
        raise ExportError(f"the module returned {out.dtype} for {fed}, expected float32")
    return out.detach().to(device="cpu", dtype=torch.float32)


def _lookup_hint(error: Exception, spec: DenoiserSpec) -> str:
    text = str(error)
    if any(word in text for word in LOOKUP) and "long" in text.lower():
        return (
            f". Times are float32: if the module looks {spec.time.name!r} up in a table, call it "
            "with t.round().long() in a wrapper's forward"
        )
    return ""


def example_hint(spec: DenoiserSpec) -> str:
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


def described(inputs: Arrays, spec: DenoiserSpec) -> str:
    """Names, dtypes and shapes of a module's inputs."""
    return ", ".join(
        f"{name} {value.dtype} {value.shape}"
        for name, value in zip(spec.input_names, inputs, strict=True)
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
            f"({causes}?): ",
            *error.args,
        ) from error


def run_decoder(
    decoder: torch.nn.Module,
    latents: NDArray[np.float32],
    spec: DenoiserSpec,
    form: Form = AS_IT_IS,
) -> torch.Tensor:
    """The decoder's float32 output for latents (B, *shape), checked to be of the spec's shape.

    Raises:
        ExportError: It fails, or returns something else.
    """
    assert spec.decoder is not None
    _, shape = call_shapes(spec)
    if spec.decoder.tile is None:
        return _decoded(decoder, latents, shape, form)
    return torch.from_numpy(
        decode_tiles(
            latents, spec.decoder, lambda part: _decoded(decoder, part, shape, form).numpy()
        )
    )


def _decoded(
    decoder: torch.nn.Module, latents: NDArray[np.float32], shape: tuple[int, ...], form: Form
) -> torch.Tensor:
    """One call of the decoder, which gives (B, *shape)."""
    placed = torch.from_numpy(latents.copy()).to(device=form.device, dtype=form.dtype)
    try:
        with calling(form.device):
            out: object = decoder(placed)
    except Exception as error:  # a user's module may raise anything
        raise ExportError(
            f"the decoder failed on float32 {latents.shape}: {type(error).__name__}: {error}"
        ) from error
    want = (len(latents), *shape)
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != want:
        found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ExportError(
            f"the decoder returned {found} for {latents.shape}, expected {want}; "
            "fix spec.decoder.shape or the decoder"
        )
    return out.detach().to(device="cpu", dtype=torch.float32)
