"""The inputs that export tries a module with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.program.points import Point, point, second_time
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.prediction import input_scale

Arrays = tuple[np.ndarray[Any, Any], ...]
GOALS = (-1.0, 0.5, 0.75)  # of the training index; below 0 is the clean end


def example_inputs(spec: DenoiserSpec, rows: int, seed: int = 0) -> Arrays:
    """A module's inputs: ``rows`` noisy samples at times spread over the schedule.

    x = c_in (alpha y + sigma z) with y ~ N(0, 1/4); rows of another ``rows`` differ. Second times
    are of steps to the clean end, to half of the training index and to three quarters, in turn.
    """
    rng = np.random.default_rng(seed)
    indices = np.unique(np.round(np.linspace(0, spec.schedule.steps - 1, rows))).astype(int)
    times = spec.schedule.from_index(indices[np.arange(rows) % len(indices)])
    at = [point(spec, float(t)) for t in times]
    fed = (input_scale(spec.prediction, p.alpha, p.sigma, spec.sigma_data) for p in at)
    scales = [(p.alpha, p.sigma, c_in) for p, c_in in zip(at, fed, strict=True)]
    alpha, sigma, c_in = np.array(scales).T.reshape(3, -1, *(1 for _ in spec.shape))
    y, z = rng.standard_normal((2, rows, *spec.shape))
    x = (c_in * (alpha * 0.5 * y + sigma * z)).astype(np.float32)
    t = np.array([p.time for p in at], dtype=np.float32)
    seconds = () if spec.second_time is None else (_second_times(spec, at),)
    return (x, t, *seconds, *(example_condition(c, rows, rng) for c in spec.conditions))


def example_arrays(spec: DenoiserSpec, rows: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """``example_inputs`` by the names of the reference: x, t, second, cond.<name>."""
    seconds = () if spec.second_time is None else ("second",)
    names = ("x", "t", *seconds, *(f"cond.{c.name}" for c in spec.conditions))
    return dict(zip(names, example_inputs(spec, rows, seed), strict=True))


def _second_times(spec: DenoiserSpec, at: Sequence[Point]) -> NDArray[np.float32]:
    pairs = []
    for k, now in enumerate(at):
        index = min(GOALS[k % len(GOALS)] * round(now.index), round(now.index) - 1)
        t = float(spec.schedule.from_index(max(int(index), -1)))
        pairs.append((now, point(spec, t)))
    return np.array([second_time(spec, *pair) for pair in pairs], np.float32)


def example_condition(c: Condition, rows: int, rng: np.random.Generator) -> NDArray[Any]:
    """Valid values (rows, *shape): the condition's own example, or else made up.

    Made up are N(0, 1), every class in turn, masks with both values in each row, and 0 of integers
    that nothing is known of. The null value is in the last row if there is one.
    """
    if c.example is not None:
        own = np.asarray(c.example)
        value = own[np.arange(rows) % len(own)]
    elif c.dtype == "bool":
        value = _masks((rows, *c.shape), rng)
    elif c.interface == "float32":
        value = rng.standard_normal((rows, *c.shape)).astype(np.float32)
    else:
        value = _integers(c, rows)
    if c.null is not None and rows > 1:
        value[-1] = c.null
    return value


def _masks(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """About half, and both values in every row; one number per row is True and False in turn."""
    value = rng.random(shape) < 0.5
    rows = value.reshape(len(value), -1)
    if rows.shape[1] == 1:
        rows[:, 0] = np.arange(len(rows)) % 2 == 0
    else:
        # attention over nothing is NaN in many modules, and True may mean to keep or to leave out
        rows[:, 0] |= ~rows.any(axis=1)
        rows[:, -1] &= ~rows.all(axis=1)
    return value


def _integers(c: Condition, rows: int) -> NDArray[Any]:
    shape = (rows, *c.shape)
    if c.allowed is None:
        return np.array(np.broadcast_to(c.filler, shape), order="C")
    low, high = c.allowed
    count = np.arange(int(np.prod(shape))).reshape(shape)
    return (low + count % (high - low + 1)).astype(c.interface)
