"""Requests: the arguments of ``Engine.sample``, checked and made into arrays before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.arrays import array_from, data_values, floats, rows_of
from revstep.engine.nearest import unknown_names
from revstep.engine.program.points import DEFAULT_STEPS
from revstep.engine.program.strength import check_strength
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.inpainting import known_pixels
from revstep.engine.runtime.seeds import sample_seeds
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.grids import Spacing

__all__ = ["Request", "check_types", "grid_steps", "make_request"]

Values = Mapping[str, ArrayLike]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Request:
    """``n`` samples to draw: a ``Batch`` of any size."""

    batch: Batch

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.batch.seeds)

    def part(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` as a batch of their own."""
        cut = slice(start, stop)
        whole = self.batch
        return Batch(
            seeds=whole.seeds[cut].copy(),
            guidance=whole.guidance[cut].copy(),
            conditions={k: v[cut] for k, v in whole.conditions.items()},
            null_conditions={k: v[cut] for k, v in whole.null_conditions.items()},
            **{
                name: None if (value := getattr(whole, name)) is None else value[cut]
                for name in ("start", "noise", "mask", "known")
            },
        )


def make_request(
    spec: DenoiserSpec,
    n: int | None,
    *,
    seed: int | Sequence[int] | NDArray[np.integer] | None = None,
    guidance: float | ArrayLike = 1.0,
    conditions: Values | None = None,
    null_conditions: Values | None = None,
    start: ArrayLike | None = None,
    start_name: str = "start",
    noise: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    known: ArrayLike | None = None,
) -> Request:
    """Checks the arguments of ``Engine.sample`` against the spec.

    ``start_name`` is what errors call the start.

    Raises:
        TypeError: A value of a wrong type or dtype.
        ValueError: An unknown name, a wrong shape, or a value out of range.
    """
    given = _mapping(conditions, "conditions")
    nulls = _mapping(null_conditions, "null_conditions")
    _check_names(spec, given, "conditions")
    _check_names(spec, nulls, "null_conditions")
    states = {start_name: start, "noise": noise, "known": known, "mask": mask}
    n = _count(spec, n, seed, given, states)
    scale = _guidance(spec, guidance, n, given, nulls)
    begin = z = None
    if start is not None:
        begin = data_values(start, start_name, spec.value_range)
        begin = rows_of(begin, spec.shape, n, start_name)
    if noise is not None:
        z = rows_of(floats(noise, "noise"), spec.shape, n, "noise")
    pixels = known_pixels(spec, n, mask, known, begin)
    fed = {c.name: _condition(c, given.get(c.name), n) for c in spec.conditions}
    none = {  # without a null value nobody reads it; but rows to spare are filled with it
        c.name: fed[c.name]
        if nulls.get(c.name) is None and c.null is None
        else _condition(c, nulls.get(c.name), n)
        for c in spec.conditions
    }
    return Request(
        Batch(
            seeds=sample_seeds(seed, n),
            guidance=scale,
            conditions=fed,
            null_conditions=none,
            start=begin if pixels is None else pixels.start,
            noise=z,
            mask=None if pixels is None else pixels.mask,
            known=None if pixels is None else pixels.values,
        )
    )


def check_types(
    steps: object,
    strength: object,
    clip: object,
    cancel: object,
    spacing: object,
    compat: object,
) -> None:
    """Checks the types of the arguments that a program is built from; ranges are checked there.

    Raises:
        TypeError: A wrong one.
        ValueError: A strength outside (0, 1].
    """
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer, type(None))):
        raise TypeError(f"steps must be a whole number; got {steps!r}")
    if isinstance(strength, bool) or not isinstance(
        strength, (int, float, np.floating, type(None))
    ):
        raise TypeError(f"strength must be a number in (0, 1]; got {strength!r}")
    if strength is not None:
        check_strength(float(strength))
    if not isinstance(clip, (bool, np.bool_, type(None))):
        raise TypeError(f"clip must be True, False or None; got {clip!r}")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise TypeError(f"cancel must be a threading.Event; got {type(cancel).__name__}")
    if not isinstance(spacing, str | Spacing | None):
        raise TypeError(
            f"spacing must be a name, a grid such as KarrasGrid(), or None; got {spacing!r}"
        )
    if not isinstance(compat, str | None):
        raise TypeError(f"compat must be a name or None; got {compat!r}")


def grid_steps(spec: DenoiserSpec, steps: int | None, spacing: str | Spacing | None) -> int:
    """The number of steps: as asked for, or what a given grid has, or 20."""
    if steps is not None:
        return int(steps)
    return spec.grid_of(spacing).count or min(DEFAULT_STEPS, spec.schedule.steps)


def _mapping(values: Values | None, what: str) -> dict[str, ArrayLike]:
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{what} maps names to values, such as {{'label': [0, 1]}}; got {type(values).__name__}"
        )
    return dict(values)


def _check_names(spec: DenoiserSpec, given: Values, what: str) -> None:
    known = [c.name for c in spec.conditions]
    if others := set(given) - set(known):
        raise ValueError(unknown_names(f"unknown name in {what}:", others, known))


def _count(
    spec: DenoiserSpec,
    n: int | None,
    seed: object,
    conditions: Values,
    states: Mapping[str, ArrayLike | None],
) -> int:
    """``n``, or what the seeds, conditions or states say of it; 1 where nothing does."""
    if n is not None:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"n must be a whole number; got {n!r}")
        if n < 1:
            raise ValueError(f"n={n} is out of range; it must be at least 1")
        return int(n)
    if seed is not None and not isinstance(seed, (int, np.integer)) and hasattr(seed, "__len__"):
        return max(1, len(seed))
    shaped = [
        (f"condition {c.name!r}", conditions[c.name], c.shape)
        for c in spec.conditions
        if c.name in conditions
    ]
    shaped += [(name, value, spec.shape) for name, value in states.items() if value is not None]
    for name, value, shape in shaped:
        array = array_from(value, name)
        if array.ndim == len(shape) + 1 or (array.ndim == 1 and set(shape) == {1}):
            return max(1, len(array))
    return 1


def _guidance(
    spec: DenoiserSpec, guidance: float | ArrayLike, n: int, given: Values, nulls: Values
) -> NDArray[np.float32]:
    scale = floats(guidance, "guidance")
    if scale.shape not in ((), (n,)):
        raise ValueError(
            f"guidance has shape {scale.shape}; give one number, or one a sample ({n})"
        )
    scale = np.ascontiguousarray(np.broadcast_to(scale, (n,)))
    if np.any(scale != 1.0):
        if not spec.conditions:
            raise ValueError("guidance needs a conditional denoiser; this one takes no conditions")
        missing = [c.name for c in spec.conditions if c.null is None and c.name not in nulls]
        if missing:
            raise ValueError(
                f"guidance needs a null value for {', '.join(missing)}; the spec has none: pass "
                "null_conditions={...}, or guidance=1"
            )
        if not given:
            raise ValueError(
                "guidance without conditions changes nothing; pass conditions={...}, or guidance=1"
            )
    return scale


def _condition(condition: Condition, value: ArrayLike | None, n: int) -> NDArray[Any]:
    if value is None and condition.null is None:
        raise ValueError(
            f"condition {condition.name!r} is missing; pass conditions={{{condition.name!r}: "
            f"{condition.dtype} of shape (n, {', '.join(map(str, condition.shape))})}}"
        )
    what, shape = f"condition {condition.name!r}", condition.shape
    array = condition.filler if value is None else condition.values(value, what)
    if array.shape == (n,) and set(shape) == {1}:  # numbers, for a module that takes (n, 1)
        array = array.reshape(n, *shape)
    return rows_of(array, shape, n, what)
