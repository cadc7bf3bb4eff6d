"""A network beside the denoiser as export runs it: its inputs and outputs, and one checked run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from revstep.engine.bundle.layout import IMAGE, LATENT, PICTURE
from revstep.engine.errors import ExportError
from revstep.engine.parts.tiles import call_shapes
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.encoder import Encoder
from revstep.export.module.checks import ROW_TOLERANCE
from revstep.export.module.examples import example_condition
from revstep.export.module.form import Form, calling

Arrays = list[NDArray[Any]]
Value = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape without the batch."""

ROWS = 4  # of a reference
SEED = 22
AS_IT_IS = Form()


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A network beside the denoiser.

    Attributes:
        what: Its name in a sentence: ``the encoder 'text'``.
        key: Its name in the parity data: ``encoder.text``.
        inputs: What it takes; a ``Condition`` says which values are sound.
        outputs: What it gives.
    """

    what: str
    key: str
    inputs: tuple[Condition, ...]
    outputs: tuple[Value, ...]

    @property
    def names(self) -> list[str]:
        """The names of the inputs."""
        return [c.name for c in self.inputs]

    def examples(self, rows: int = ROWS) -> Arrays:
        """Sound inputs, (rows, *shape) each."""
        rng = np.random.default_rng(SEED)
        return [example_condition(c, rows, rng) for c in self.inputs]


def encoder_part(encoder: Encoder, spec: DenoiserSpec) -> Part:
    """An encoder of the spec."""
    found = {c.name: c for c in spec.conditions}
    outputs = tuple((n, found[n].interface, found[n].shape) for n in encoder.conditions)
    key = f"encoder.{encoder.name}"
    return Part(f"the encoder {encoder.name!r}", key, encoder.inputs, outputs)


def picture_part(spec: DenoiserSpec) -> Part:
    """The spec's picture encoder."""
    assert spec.picture_encoder is not None
    pictures = Condition(name=PICTURE, shape=spec.picture_encoder.shape)
    output = (LATENT, "float32", spec.shape)
    return Part("the picture encoder", "picture_encoder", (pictures,), (output,))


def decoder_part(spec: DenoiserSpec) -> Part:
    """The spec's decoder: of all, or of a tile."""
    latents, pictures = call_shapes(spec)
    given = Condition(name=LATENT, shape=latents)
    return Part("the decoder", "decoder", (given,), ((IMAGE, "float32", pictures),))


def parts_of(spec: DenoiserSpec) -> list[Part]:
    """All that a spec has beside its denoiser: encoders, picture encoder, decoder."""
    parts = [encoder_part(e, spec) for e in spec.encoders]
    parts += [picture_part(spec)] if spec.picture_encoder is not None else []
    return parts + ([decoder_part(spec)] if spec.decoder is not None else [])


def run_part(
    module: torch.nn.Module, part: Part, inputs: Sequence[NDArray[Any]], form: Form = AS_IT_IS
) -> Arrays:
    """The outputs of a module in eval mode, checked to be those of the part.

    Raises:
        ExportError: It fails, or returns something else.
    """
    fed = ", ".join(
        f"{name} {value.dtype} {value.shape}"
        for name, value in zip(part.names, inputs, strict=True)
    )
    tensors = [torch.from_numpy(np.array(value)) for value in inputs]
    placed = [t.to(form.dtype) if t.dtype == torch.float32 else t for t in tensors]
    try:
        with calling(form.device):
            found: object = module(*(t.to(form.device) for t in placed))
    except Exception as error:  # a user's module may raise anything
        raise ExportError(
            f"{part.what} failed on {fed}: {type(error).__name__}: {error}"
        ) from error
    outputs = (found,) if isinstance(found, torch.Tensor) else found
    if (
        not isinstance(outputs, tuple | list)
        or len(outputs) != len(part.outputs)
        or not all(isinstance(o, torch.Tensor) for o in outputs)
    ):
        wanted = ", ".join(name for name, _, _ in part.outputs)
        raise ExportError(
            f"{part.what} returned {_kinds(found)} for {fed}; expected a tensor or a tuple of them "
            f"for {wanted}, in this order"
        )
    return [
        _checked(part, value, tensor, len(inputs[0]))
        for value, tensor in zip(part.outputs, outputs, strict=True)
    ]


def check_part(module: torch.nn.Module, part: Part) -> None:
    """Runs the module at batches 3, 2 and 1: shapes, any batch, no randomness, rows alone.

    Raises:
        ExportError: What was got, what was expected, and how to fix it.
    """
    inputs = part.examples(3)
    three = run_part(module, part, inputs)
    again = run_part(module, part, inputs)
    if any(not np.array_equal(a, b) for a, b in zip(three, again, strict=True)):
        raise ExportError(
            f"{part.what} returned two different outputs for the same inputs; what a bundle holds "
            "uses no random numbers (a variational encoder gives its mean)"
        )
    for rows in (2, 1):
        some = run_part(module, part, [value[:rows] for value in inputs])
        for (name, _, _), few, all_rows in zip(part.outputs, some, three, strict=True):
            scale = max(float(np.sqrt(np.mean(np.square(all_rows, dtype=np.float64)))), 1e-12)
            change = float(np.max(np.abs(few - all_rows[:rows].astype(np.float64)))) / scale
            if change > ROW_TOLERANCE:
                raise ExportError(
                    f"{part.what}'s rows depend on each other: a row of {name!r} changes by "
                    f"{change:.2g} of its RMS with the rows beside it, and requests share calls"
                )


def _checked(part: Part, value: Value, tensor: torch.Tensor, rows: int) -> NDArray[Any]:
    name, dtype, shape = value
    if tuple(tensor.shape) != (rows, *shape):
        raise ExportError(
            f"{part.what} returned {name!r} of shape {tuple(tensor.shape)}, expected "
            f"{(rows, *shape)}; fix the spec's shape of {name!r}, or the module"
        )
    is_float, wants_float = tensor.is_floating_point(), dtype == "float32"
    if is_float != wants_float:
        raise ExportError(
            f"{part.what} returned {name!r} in {str(tensor.dtype).removeprefix('torch.')}; the "
            f"spec says {dtype}"
        )
    array: NDArray[Any] = tensor.detach().to("cpu", getattr(torch, dtype)).numpy()
    if is_float and not np.isfinite(array).all():
        raise ExportError(f"{part.what} gives NaN or infinity for {name!r}; nothing was exported")
    return array


def _kinds(found: object) -> str:
    if isinstance(found, tuple | list):
        return f"{type(found).__name__} of {', '.join(type(o).__name__ for o in found) or 'none'}"
    return type(found).__name__
