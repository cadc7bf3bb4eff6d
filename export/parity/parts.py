"""The reference of the networks beside the denoiser, and what is held to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from revstep.engine.backends.module.cast import copy_module
from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.form import Form, find_form, in_eval_mode
from revstep.export.module.part import Part, run_part
from revstep.export.module.unsupported import no_autocast
from revstep.export.parity.bounds import Bounds, relative_error, wider, within
from revstep.export.parity.reference import bounds_of

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]]


def make_part_reference(
    module: torch.nn.Module, copy: torch.nn.Module, part: Part
) -> tuple[dict[str, NDArray[Any]], Bounds]:
    """The inputs and the given module's outputs, and the bounds of their parity.

    Returns:
        ``<key>.in.<input>`` and ``<key>.out.<output>``, (4, *shape) each; the fp32 bounds, wider
        for a module of 16 bits.

    Raises:
        ExportError: It fails, or its float32 copy differs from it beyond the bound.
    """
    inputs = part.examples()
    given = in_eval_mode(module)
    device = next((t.device for t in module.parameters()), torch.device("cpu"))
    with no_autocast(device):
        form: Form = find_form(given, functools.partial(_run, given, part, inputs))
        outputs = run_part(given, part, inputs, form)
    limit = bounds_of({p.dtype for p in given.parameters()})
    arrays = {f"{part.key}.in.{name}": v for name, v in zip(part.names, inputs, strict=True)}
    for (name, _, _), value in zip(part.outputs, outputs, strict=True):
        arrays[f"{part.key}.out.{name}"] = value
    error = max(
        relative_error(got, want)
        for got, want in zip(run_part(copy, part, inputs), outputs, strict=True)
    )
    if not error <= limit.forward:
        raise ExportError(
            f"{part.what}'s float32 copy on the CPU, which its graph is made of, does not do what "
            f"it does as it was given (by {error:.3g} of its RMS, the bound is {limit.forward:g}); "
            "nothing was exported"
        )
    return arrays, limit


def part_rounding(copy: torch.nn.Module, part: Part) -> float:
    """How far the float32 module is from itself in float64, on the reference's first rows."""
    inputs = [value[:2] for value in part.examples()]
    exact = run_part(copy_module(copy).double(), part, inputs, Form(dtype=torch.float64))
    return max(
        relative_error(got, want)
        for got, want in zip(run_part(copy, part, inputs), exact, strict=True)
    )


def check_part_parity(run: Run, part: Part, parity: Arrays, limit: Bounds) -> dict[str, float]:
    """The largest error of what ``run`` gives for the reference's inputs, with its bound.

    Raises:
        ParityError: NaN, infinity, or an error above the bound.
    """
    outputs = run({name: parity[f"{part.key}.in.{name}"] for name in part.names})
    error = max(
        relative_error(got, parity[f"{part.key}.out.{name}"])
        for (name, _, _), got in zip(part.outputs, outputs, strict=True)
    )
    return within(part.what, error, limit.forward)


def encoded_parity(parity: Arrays, spec: DenoiserSpec, runs: Mapping[str, Run]) -> Arrays:
    """The reference with the conditions of its DDIM-20 run as encoders give them: the whole way.

    Args:
        parity: The reference.
        spec: The denoiser's spec.
        runs: By the encoders' names.
    """
    arrays = dict(parity)
    conditions = {c.name: c for c in spec.conditions}
    for encoder in spec.encoders:
        names = [c.name for c in encoder.inputs]
        inputs = {name: parity[f"encoder.{encoder.name}.in.{name}"] for name in names}
        for name, made in zip(encoder.conditions, runs[encoder.name](inputs), strict=True):
            given = parity[f"ddim20.cond.{name}"]
            rows = len(given) - (conditions[name].null is not None)  # the last has the null value
            value = given.copy()
            value[:rows] = made[np.arange(rows) % len(made)]
            arrays[f"ddim20.cond.{name}"] = value
    return arrays


def part_limits(limit: Bounds, bounds: Mapping[str, Bounds]) -> dict[str, Bounds]:
    """The bounds of a part in every precision: the precision's, or the part's own where wider."""
    return {precision: wider(limit, own) for precision, own in bounds.items()}


def _run(module: torch.nn.Module, part: Part, inputs: list[NDArray[Any]], form: Form) -> object:
    return run_part(module, part, inputs, form)
