"""``score_spec``: how well a spec fits a network, measured on true samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.errors import ArgumentError
from revstep.engine.program.points import Point
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import Schedule, VPSchedule
from revstep.export.fit.trial import FEWEST, Float64, Trial, trial_of

if TYPE_CHECKING:
    import torch

SLACK = 1.1  # few samples: their spread is known to a tenth
LEAST = 1e-6  # ratio: a network that knows the data by heart has no error
LONG = 8  # entries of a table that are written out


@dataclasses.dataclass(frozen=True, eq=False)
class SpecScore:
    """How far a network's estimates of x0 are from true samples, read by a spec.

    Attributes:
        spec: The spec.
        levels: Noise levels sigma / alpha (k,) that were tried, rising.
        errors: RMS error of the estimate of x0 at each.
        linear_errors: That of the best estimate that is linear in the state. The right spec's are
            not above, and fall to 0 with the noise.
        reverse_span: What to wrap the module in before an export with this spec:
            ``reversed_flow(module, reverse_span)``; None: nothing.
    """

    spec: DenoiserSpec
    levels: tuple[float, ...]
    errors: tuple[float, ...]
    linear_errors: tuple[float, ...]
    reverse_span: float | None = None

    @property
    def score(self) -> float:
        """The geometric mean of error over linear error: below 1 for the right spec."""
        return float(np.exp(np.mean(np.log(np.maximum(self._ratios, LEAST)))))

    @property
    def fits(self) -> bool:
        """Whether no error is above the linear one, but for a tenth: a spec that doesn't is wrong.

        A wrong one may fit too, where it errs by little: the right one scores less.
        """
        return bool(np.all(self._ratios <= SLACK))

    @property
    def _ratios(self) -> Float64:
        return np.asarray(np.array(self.errors) / np.array(self.linear_errors))

    def __str__(self) -> str:
        """One line: the score, and of what."""
        spec, wrap = self.spec, ""
        if self.reverse_span is not None:
            wrap = f", reversed_flow(module, {self.reverse_span:g})"
        kind = f"{spec.prediction}, {_short(spec.schedule)}, time {spec.time.kind}{wrap}"
        return f"{self.score:.3g} {'fits' if self.fits else 'does not fit'}: {kind}"


def score_spec(
    network: torch.nn.Module | Denoiser | str | Path,
    spec: DenoiserSpec,
    data: ArrayLike,
    *,
    conditions: Mapping[str, ArrayLike] | None = None,
    output: str | int | None = None,
    seed: int = 0,
) -> SpecScore:
    """Measures how well a spec fits a network: noises true samples, and asks for them back.

    A network that was trained on such data, and is read as it was trained, errs by no more than
    the best linear estimate at every noise level, and by less the more the data have in common. A
    wrong prediction, schedule or time, or data that are scaled otherwise than in training, err by
    more.

    Args:
        network: The module, as ``export_module`` takes it; any ``Denoiser``; or a bundle's path,
            such as that of an ONNX file that was exported with a guess.
        spec: Its spec.
        data: True samples (n, *shape), scaled as in training; 16 or more.
        conditions: Their conditions, name -> (n, *shape) or one for all; null values by default.
        output: As in ``export_module``.
        seed: Of the noise.

    Raises:
        TypeError: No network, or values of a wrong type.
        ValueError: Data or conditions of a wrong shape, name or range; or the training's noise
            levels are all far from the data's spread.
        BundleError: A bundle that can't be read.
        ExportError: The module can't be called as the spec says.
    """
    trial = trial_of(network, spec, data, conditions, output, seed)
    at = trial.levels(spec)
    if len(at) < FEWEST:
        raise far_from(trial.spread, spec.schedule)
    return scored(trial, spec, at, trial.errors(spec, at, trial.outputs(spec, at)))


def far_from(spread: float, schedule: Schedule) -> ArgumentError:
    """The error where data's spread is far from the noise of all of a training."""
    low, high = schedule.level_range
    return ArgumentError(
        f"data: their spread is {spread:.3g}, and the schedule's noise levels sigma / alpha go "
        f"from {low:.3g} to {high:.3g}, so they say nothing of each other; scale the data as in "
        "training, or mend the schedule",
        "data",
    )


def scored(
    trial: Trial,
    spec: DenoiserSpec,
    at: Mapping[int, Point],
    errors: Float64,
    reverse_span: float | None = None,
) -> SpecScore:
    """The errors at the points with what they are compared with."""
    return SpecScore(
        spec=spec,
        levels=tuple(p.sigma / p.alpha for p in at.values()),
        errors=tuple(errors.tolist()),
        linear_errors=tuple(trial.linear_errors(at).tolist()),
        reverse_span=reverse_span,
    )


def _short(schedule: Schedule) -> str:
    """``VPSchedule(betas='linear')``: the fields that differ from their defaults."""
    if schedule.kind == "vp" and schedule == VPSchedule.sigmoid(schedule.steps):
        return f"VPSchedule.sigmoid({schedule.steps})"
    shown = []
    for field in dataclasses.fields(schedule):  # type: ignore[arg-type]
        value = getattr(schedule, field.name)
        if value != field.default:
            long = isinstance(value, tuple) and len(value) > LONG
            shown.append(f"{field.name}={f'({len(value)} values)' if long else repr(value)}")
    return f"{type(schedule).__name__}({', '.join(shown)})"
