"""True samples, noised as a spec says, through the caller's network; and the error of its x0.

The yardstick is the best estimate that is linear in the state: with data of spread s about its
mean, its error is s sigma / sqrt(alpha² s² + sigma²). The trained network's estimate of x0 is the
mean given all of the state, so its error is not above that, at any noise level. A network that is
told another time, or whose output is taken for something else, is not held by it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.checks import check_type, check_whole, wrong_type
from revstep.engine.errors import ArgumentError
from revstep.engine.program.points import Point, points_at, second_time, training_end
from revstep.engine.runtime.request import Request
from revstep.engine.runtime.resolve import batch_of
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.prediction import input_scale, x0_coefficients
from revstep.export.parity.runs import forward_rows

if TYPE_CHECKING:
    import torch

LEVELS = np.geomspace(0.05, 10.0, 8)
"""Noise levels sigma / alpha, in spreads of the data.

Below, what a network can't resolve is larger than the noise; above, no network knows more than the
mean.
"""
NEAR = 1.5  # a training index this near to a level, as a factor, stands for it
FEWEST = 3  # levels that say something

Float64 = NDArray[np.float64]
Network: TypeAlias = "torch.nn.Module | Denoiser | str | Path"
"""A module, any denoiser, or the directory of a bundle, whose fp32 graph runs in ONNX Runtime."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A network, and true samples with the noise that is added to them.

    Attributes:
        denoiser: The network.
        data: float32 (n, *shape).
        noise: float32 (levels, n, *shape).
        conditions: ``cond.<name>`` -> (n, *shape).
        spread: Standard deviation of all numbers of the data.
    """

    denoiser: Denoiser
    data: NDArray[np.float32]
    noise: NDArray[np.float32]
    conditions: dict[str, NDArray[Any]]
    spread: float

    def first(self, samples: int) -> Trial:
        """Of the first samples alone."""
        return dataclasses.replace(
            self,
            data=self.data[:samples],
            noise=self.noise[:, :samples],
            conditions={k: v[:samples] for k, v in self.conditions.items()},
        )

    def levels(self, spec: DenoiserSpec) -> dict[int, Point]:
        """The points of the spec's training that are nearest to ``LEVELS``, by the level's number.

        Empty where its training has none near.
        """
        schedule = spec.schedule
        times = schedule.from_index(np.arange(schedule.steps))
        alpha, sigma = schedule.alpha_sigma(times)
        inside = np.flatnonzero((alpha > 0.0) & (sigma > 0.0))
        own = np.log(sigma[inside] / alpha[inside])
        found: dict[int, float] = {}
        for number, level in enumerate(np.log(LEVELS * self.spread)):
            nearest = int(np.argmin(np.abs(own - level)))
            time = float(times[inside[nearest]])
            if abs(own[nearest] - level) <= math.log(NEAR) and time not in found.values():
                found[number] = time
        return dict(zip(found, points_at(spec, list(found.values())), strict=True))

    def outputs(
        self, spec: DenoiserSpec, at: Mapping[int, Point], span: float | None = None
    ) -> NDArray[np.float32]:
        """What the network gives at the points, float32 (levels, n, *shape).

        Args:
            spec: Says how the state is scaled.
            at: Of ``levels``.
            span: Of a ``reversed_flow``; None: the network is asked as it is.

        Raises:
            ExportError: The module fails on such times.
            BackendError: So does another network.
        """
        n, points = len(self.data), list(at.values())
        tiled = {k: np.concatenate([v] * len(points)) for k, v in self.conditions.items()}
        x = np.concatenate([self._fed(spec, number, p) for number, p in at.items()])
        t = np.repeat(np.array([p.time for p in points], np.float32), n)
        if span is not None:
            t = np.float32(span) - t
        if spec.second_time is not None:  # an interval of length 0: the velocity itself
            tiled["second"] = np.repeat(
                np.array([second_time(spec, p, p) for p in points], np.float32), n
            )
        out = forward_rows(self.denoiser, tiled, x, t)
        kept = out[:, : self.data.shape[1]].reshape(len(points), n, *self.data.shape[1:])
        return kept if span is None else -kept

    def errors(
        self, spec: DenoiserSpec, at: Mapping[int, Point], out: NDArray[np.float32]
    ) -> Float64:
        """The RMS error of x0 at each point (levels,), infinite where it is not finite."""
        found = []
        for (number, p), m in zip(at.items(), out, strict=True):
            p_x, p_m = x0_coefficients(
                spec.prediction, p.alpha, p.sigma, sigma_data=spec.sigma_data,
                training_end=training_end(spec, p.t) if spec.prediction == "mean" else None,
            )  # fmt: skip
            estimate = p_x * self._state(number, p) + p_m * m.astype(np.float64)
            error = float(np.sqrt(np.mean((estimate - self.data) ** 2)))
            found.append(error if math.isfinite(error) else math.inf)
        return np.array(found)

    def linear_errors(self, at: Mapping[int, Point]) -> Float64:
        """The RMS error of the best estimate that is linear in the state, at each point."""
        s = self.spread
        return np.array(
            [s * p.sigma / math.hypot(p.alpha * s, p.sigma) for p in at.values()], np.float64
        )

    def _state(self, number: int, p: Point) -> Float64:
        return np.asarray(p.alpha * self.data.astype(np.float64) + p.sigma * self.noise[number])

    def _fed(self, spec: DenoiserSpec, number: int, p: Point) -> NDArray[np.float32]:
        scale = input_scale(spec.prediction, p.alpha, p.sigma, spec.sigma_data)
        return (scale * self._state(number, p)).astype(np.float32)


def trial_of(
    network: Network,
    spec: DenoiserSpec,
    data: ArrayLike,
    conditions: Mapping[str, ArrayLike] | None,
    output: str | int | None,
    seed: int,
) -> Trial:
    """A network with samples to try it on.

    Raises:
        TypeError: No network, or values of a wrong type.
        ValueError: Data or conditions of a wrong shape, name or range; data that are all alike; a
            network that predicts ``jump``.
        ExportError: The module can't be called as the spec says.
    """
    check_type(spec, "spec", DenoiserSpec, "a DenoiserSpec")
    check_whole(seed, "seed", 0)
    if data is None:
        raise wrong_type(data, "data", "true samples (n, *shape)")
    if spec.prediction == "jump":
        raise ArgumentError(
            "spec: 'jump' gives a sample of the data, not their mean given the state, so its error "
            "says nothing of a spec; draw samples with 'flow_map', and look",
            "spec",
        )
    batch = batch_of(spec, Request(seed=0, start=data, conditions=conditions), "data")
    samples = batch.start
    assert samples is not None
    spread = float(samples.astype(np.float64).std())
    if spread == 0.0:
        raise ArgumentError("the data are all one number; give true samples that differ", "data")
    noise = np.random.default_rng(seed).standard_normal(
        (len(LEVELS), *samples.shape), dtype=np.float32
    )
    values = {f"cond.{name}": value for name, value in batch.conditions.items()}
    return Trial(_denoiser(network, spec, output), samples, noise, values, spread)


def _denoiser(network: Network, spec: DenoiserSpec, output: str | int | None) -> Denoiser:
    """The network as it is; a bundle's graph; or a module in eval mode, as export calls it."""
    if isinstance(network, str | Path):
        from revstep.engine.backends.onnx_cpu import OrtDenoiser
        from revstep.engine.bundle.reader import Bundle

        bundle = Bundle.open(network)
        return OrtDenoiser(bundle.graph("fp32"), bundle.spec)
    if hasattr(network, "bind"):
        return cast(Denoiser, network)
    from revstep.export.module.checks import called_module, check_kind
    from revstep.export.module.examples import example_inputs
    from revstep.export.module.form import find_form, in_eval_mode
    from revstep.export.module.run import GivenDenoiser, run_module

    check_kind(network, "the network")
    module = cast("torch.nn.Module", network)
    call = called_module(in_eval_mode(module), spec, output)
    x, t, *others = example_inputs(spec, 1)
    one = (x, np.ones_like(t), *others)  # a time that every kind has
    return GivenDenoiser(
        call, spec, find_form(call, lambda form: run_module(call, one, spec, form))
    )
