"""Requests: the arguments of ``Engine.sample``, checked and made into arrays before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.loop import Batch
from revstep.engine.seeds import sample_seeds
from revstep.engine.spec import Condition, DenoiserSpec

__all__ = ["Request", "make_request"]

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
            start=None if whole.start is None else whole.start[cut],
            noise=None if whole.noise is None else whole.noise[cut],
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
    noise: ArrayLike | None = None,
) -> Request:
    """Checks the arguments of ``Engine.sample`` against the spec.

    Raises:
        TypeError: A value of a wrong type or dtype.
        ValueError: An unknown name, a wrong shape, or a value out of range.
    """
    given = _mapping(conditions, "conditions")
    nulls = _mapping(null_conditions, "null_conditions")
    _check_names(spec, given, "conditions")
    _check_names(spec, nulls, "null_conditions")
    n = _count(spec, n, seed, given, start, noise)
    scale = _guidance(spec, guidance, n, given, nulls)
    return Request(
        Batch(
            seeds=sample_seeds(seed, n),
            guidance=scale,
            conditions={c.name: _condition(c, given.get(c.name), n) for c in spec.conditions},
            null_conditions={c.name: _null(c, nulls.get(c.name), n) for c in spec.conditions},
            start=None if start is None else _state(spec, start, n, "start"),
            noise=None if noise is None else _state(spec, noise, n, "noise"),
        )
    )


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
    if unknown := set(given) - set(known):
        raise ValueError(
            f"unknown name in {what}: {', '.join(sorted(unknown))}; this denoiser takes "
            f"{', '.join(known) or 'none'}"
        )


def _count(
    spec: DenoiserSpec,
    n: int | None,
    seed: object,
    conditions: Values,
    start: ArrayLike | None,
    noise: ArrayLike | None,
) -> int:
    """``n``, or what the seeds, conditions, start or noise say of it; 1 where nothing does."""
    if n is not None:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"n must be a whole number; got {n!r}")
        if n < 1:
            raise ValueError(f"n={n} is out of range; it must be at least 1")
        return int(n)
    if seed is not None and not isinstance(seed, (int, np.integer)) and hasattr(seed, "__len__"):
        return max(1, len(seed))
    shaped = [(conditions[c.name], c.shape) for c in spec.conditions if c.name in conditions]
    shaped += [(value, spec.shape) for value in (start, noise) if value is not None]
    for value, shape in shaped:
        array = _array(value, "a condition, start or noise")
        if array.ndim == len(shape) + 1:
            return max(1, len(array))
    return 1


def _guidance(
    spec: DenoiserSpec, guidance: float | ArrayLike, n: int, given: Values, nulls: Values
) -> NDArray[np.float32]:
    scale = _floats(guidance, "guidance")
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
    if value is None:
        if condition.null is None:
            raise ValueError(
                f"condition {condition.name!r} is missing; pass conditions={{{condition.name!r}: "
                f"{condition.dtype} of shape (n, {', '.join(map(str, condition.shape))})}}"
            )
        value = condition.null
        return np.full((n, *condition.shape), value, dtype=condition.dtype)
    what = f"condition {condition.name!r}"
    array = _integers(value, what) if condition.dtype == "int64" else _floats(value, what)
    if condition.classes is not None and np.any((array < 0) | (array >= condition.classes)):
        bad = array[(array < 0) | (array >= condition.classes)].flat[0]
        raise ValueError(f"{what} holds {bad}; allowed: 0 to {condition.classes - 1}")
    return _rows(array, condition.shape, n, what)


def _null(condition: Condition, value: ArrayLike | None, n: int) -> NDArray[Any]:
    if value is None and condition.null is None:
        return np.zeros((n, *condition.shape), dtype=condition.dtype)  # never fed: guidance is 1
    return _condition(condition, value, n)


def _state(spec: DenoiserSpec, value: ArrayLike, n: int, what: str) -> NDArray[np.float32]:
    return _rows(_floats(value, what), spec.shape, n, what)


def _rows(array: NDArray[Any], shape: tuple[int, ...], n: int, what: str) -> NDArray[Any]:
    """(n, *shape), from that or from one value for all."""
    if array.shape != shape and array.shape != (n, *shape):
        raise ValueError(
            f"{what} has shape {array.shape}; allowed: {(n, *shape)}, or {shape} for all samples"
        )
    return np.ascontiguousarray(np.broadcast_to(array, (n, *shape)))


def _array(value: Any, what: str) -> NDArray[Any]:
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU, with a gradient, or bf16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} can't be read as an array: {error}") from error


def _floats(value: ArrayLike, what: str) -> NDArray[np.float32]:
    array = _array(value, what)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{what} must be numbers; got {array.dtype}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{what} holds NaN or infinity; it must be finite")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.all(np.isfinite(single)):
        raise ValueError(f"{what} holds a value beyond float32")
    return single


def _integers(value: ArrayLike, what: str) -> NDArray[np.int64]:
    array = _array(value, what)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers; got {array.dtype}")
    return array.astype(np.int64)
