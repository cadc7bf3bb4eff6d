"""A request against a spec: the arguments of its program, and its batch, before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.arrays import array_from, data_values, floats, rows_of
from revstep.engine.checks import check_mapping
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message
from revstep.engine.nearest import unknown_names
from revstep.engine.program.steps import default_steps
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.request import (
    Request,
    checked_seed,
    sample_seeds,
)
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.encoder import Encoder

MAX = float(np.finfo(np.float32).max)
DEFAULT_STRENGTH = 0.8  # of image-to-image, as diffusers has it

Arrays = Mapping[str, ArrayLike]


def with_sampler(spec: DenoiserSpec, request: Request) -> Request:
    """The request, with the spec's own or usual sampler where it names none."""
    if request.sampler is not None:
        return request
    return dataclasses.replace(request, sampler=spec.default_sampler)


def program_arguments(spec: DenoiserSpec, request: Request) -> dict[str, Any]:
    """What ``build_program`` is given for a request; hashable, as programs are kept by it."""
    strength, steps = request.strength, request.steps
    if strength is None:
        strength = 1.0 if request.start is None else DEFAULT_STRENGTH
    if steps is None:
        steps = default_steps(spec, spec.grid_of(request.grid))
    return {
        "sampler": request.resolved_sampler,
        "steps": steps,
        "grid": request.grid,
        "compat": request.compat,
        "clip": request.clip,
        "strength": strength,
        "from_noise": request.start is None,
        "inpaint": request.mask is not None,
        "guidance_weight": request.guidance_weight,
        "final": request.final,
    }


def batch_of(spec: DenoiserSpec, request: Request, start_name: str = "start") -> Batch:
    """The request's values as arrays of the spec's shapes; seeds are drawn where it has none.

    Args:
        spec: The denoiser's spec.
        request: What is drawn.
        start_name: What errors call the start.

    Raises:
        TypeError: A value of a wrong type or dtype.
        ValueError: An unknown name, a wrong shape, or a value out of range.
    """
    asked, nulls = dict(request.conditions or {}), dict(request.null_conditions or {})
    _check_names(spec, asked, "conditions")
    _check_names(spec, nulls, "null_conditions")
    n = _count(spec, request, asked, start_name)
    scale = _guidance(spec, request, n, asked, nulls)
    start = noise = None
    if request.start is not None:
        start = data_values(request.start, start_name, spec.value_range)
        start = rows_of(start, spec.shape, n, start_name)
    if request.noise is not None:
        noise = rows_of(floats(request.noise, "noise"), spec.shape, n, "noise")
    known = None
    if request.mask is not None:
        from revstep.engine.runtime.inpainting import known_pixels

        known = known_pixels(spec, n, request.mask, request.known, start)
    conditions, null_conditions = _conditions(spec, asked, nulls, n)
    return Batch(
        seeds=sample_seeds(request.seed, n),
        guidance=scale,
        conditions=conditions,
        null_conditions=null_conditions,
        start=start if known is None else known.start,
        noise=noise,
        mask=None if known is None else known.mask,
        known=None if known is None else known.pixels,
    )


def next_batch(
    spec: DenoiserSpec,
    request: Request,
    like: Batch,
    seed: int | Sequence[int] | None,
    conditions: Arrays | None,
    null_conditions: Arrays | None,
    noise: ArrayLike | None = None,
) -> Batch:
    """A batch of other values than one before it; what ``batch_of`` gives, in a part of the time.

    Args:
        spec: The denoiser's spec.
        request: Of the batch before it.
        like: That batch: its guidance, start and known pixels stay.
        seed: As in ``Request``.
        conditions: Of the new batch; None: those of ``like``, with its null conditions.
        null_conditions: Of the new batch.
        noise: Of the new batch; None: that of ``like``.

    Raises:
        TypeError, ValueError: As ``batch_of``.
    """
    n = like.n
    if conditions is not None:
        conditions = check_mapping(conditions, "conditions", "{'label': [0, 1]}")
    if null_conditions is not None:
        null_conditions = check_mapping(null_conditions, "null_conditions", "{'label': [0, 1]}")
    seeds, begin = sample_seeds(checked_seed(seed), n), like.noise
    if noise is not None:
        begin = rows_of(floats(noise, "noise"), spec.shape, n, "noise")
    if conditions is None and null_conditions is None:
        return like.with_values(seeds, like.conditions, like.null_conditions, begin)
    asked = (request.conditions if conditions is None else conditions) or {}
    nulls = (request.null_conditions if null_conditions is None else null_conditions) or {}
    _check_names(spec, asked, "conditions")
    _check_names(spec, nulls, "null_conditions")
    if len(like.guided):
        _guidance(spec, request, n, asked, nulls)
    return like.with_values(seeds, *_conditions(spec, asked, nulls, n), begin)


def with_own_values(request: Request) -> Request:
    """A checked request with arrays of its own, as callers may write into theirs again."""

    def own(name: str, value: ArrayLike | None) -> Any:
        return None if value is None else array_from(value, name).copy()

    names = ("start", "mask", "known", "noise")
    changed: dict[str, Any] = {name: own(name, getattr(request, name)) for name in names}
    for name in ("conditions", "null_conditions", "inputs", "null_inputs"):
        if (given := getattr(request, name)) is not None:
            changed[name] = {key: own(key, value) for key, value in given.items()}
    if not isinstance(request.guidance, int | float):
        changed["guidance"] = own("guidance", request.guidance)
    return dataclasses.replace(request, **changed)


def _conditions(
    spec: DenoiserSpec, asked: Arrays, nulls: Arrays, n: int
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The conditions and null conditions of n samples."""
    for encoder in spec.encoders:
        missing = [c for c in spec.conditions if c.name in encoder.conditions and c.null is None
                   and asked.get(c.name) is None]  # fmt: skip
        if missing:
            text = f"condition {missing[0].name!r} is missing, which encoder {encoder.name!r} gives"
            raise ArgumentError(Message(text, "; pass ", *_ways(encoder, "inputs")), "inputs")
    conditions = {c.name: _condition(c, asked.get(c.name), n) for c in spec.conditions}
    null_conditions = {  # without a null value nobody reads them; but they fill rows to spare
        c.name: conditions[c.name]
        if nulls.get(c.name) is None and c.null is None
        else _condition(c, nulls.get(c.name), n)
        for c in spec.conditions
    }
    return conditions, null_conditions


def _ways(encoder: Encoder, what: str) -> tuple[str | Argument, ...]:
    """The arguments that have an encoder run: its inputs, or a prompt."""
    named = Argument(what, {c.name: ... for c in encoder.inputs})
    if not encoder.tokenizers:
        return (named,)
    return (Argument("prompt" if what == "inputs" else "negative_prompt"), ", or ", named)


def _check_names(spec: DenoiserSpec, names: Arrays, what: str) -> None:
    if not names:
        return
    known = [c.name for c in spec.conditions]
    if others := set(names) - set(known):
        raise ArgumentError(unknown_names(f"unknown name in {what}:", others, known), what)


def _count(spec: DenoiserSpec, request: Request, conditions: Arrays, start_name: str) -> int:
    """``n``, or what the seeds, conditions or states say of it; 1 where nothing does."""
    if request.n is not None:
        return request.n
    if isinstance(request.seed, tuple):
        return max(1, len(request.seed))
    shaped = [
        (f"condition {c.name!r}", conditions[c.name], c.shape)
        for c in spec.conditions
        if c.name in conditions
    ]
    states = ((start_name, request.start), ("noise", request.noise),
              ("known", request.known), ("mask", request.mask))  # fmt: skip
    shaped += [(name, value, spec.shape) for name, value in states if value is not None]
    for name, value, shape in shaped:
        array = array_from(value, name)
        if array.ndim == len(shape) + 1 or (array.ndim == 1 and set(shape) == {1}):
            return max(1, len(array))
    return 1


def _guidance(
    spec: DenoiserSpec, request: Request, n: int, conditions: Arrays, nulls: Arrays
) -> NDArray[np.float32]:
    value = request.guidance
    scale: np.float32 | NDArray[np.float32]
    if isinstance(value, float) and -MAX < value < MAX:  # an array takes a tenth of a short call
        scale = np.float32(value)
    else:
        scale = floats(value, "guidance")
    if scale.shape not in ((), (n,)):
        raise ArgumentError(
            f"guidance has shape {scale.shape}; give one number, or one per sample ({n})",
            "guidance",
        )
    off = (scale == 1.0).all()
    scale = np.full(n, scale, np.float32)
    if off:
        if request.guidance_weight is not None:
            raise ArgumentError(
                "guidance_weight without guidance changes nothing; pass guidance=g, or leave it "
                "out",
                "guidance_weight",
            )
        return scale
    if not spec.conditions:
        raise ArgumentError(
            "guidance needs a conditional denoiser; this one takes no conditions", "guidance"
        )
    missing = [c.name for c in spec.conditions if c.null is None and c.name not in nulls]
    none, one = Argument("null_conditions", {}), Argument("guidance", 1)
    if missing:
        said = f"guidance needs a null value for {', '.join(missing)}; the spec has none: pass "
        for encoder in spec.encoders:
            if missing[0] in encoder.conditions:
                text = Message(said, *_ways(encoder, "null_inputs"), ", or ", one)
                raise ArgumentError(text, "null_inputs")
        raise ArgumentError(Message(said, none, ", or ", one), "null_conditions")
    if not conditions:
        said = "guidance without conditions changes nothing; pass "
        raise ArgumentError(Message(said, Argument("conditions", {}), ", or ", one), "conditions")
    return scale


def _condition(condition: Condition, value: ArrayLike | None, n: int) -> NDArray[Any]:
    """(n, *shape) in the interface's dtype, from the given value or else the null value."""
    what, shape = f"condition {condition.name!r}", condition.shape
    if value is None and condition.null is None:
        sizes = f"(n, {', '.join(map(str, shape))})" if shape else "(n,)"
        needed = Argument("conditions", {condition.name: ...})
        raise ArgumentError(
            Message(f"{what} is missing; pass ", needed, f", {condition.dtype} of shape {sizes}"),
            "conditions",
        )
    try:
        array = condition.filler if value is None else condition.values(value, what)
        if array.shape == (n,) and set(shape) == {1}:  # numbers, for a module that takes (n, 1)
            array = array.reshape(n, *shape)
        return rows_of(array, shape, n, what)
    except ArgumentError as error:
        error.argument = "conditions"
        raise
