"""Tracing: a sampler written as textbook algebra becomes rows of coefficients.

A sampler is a function of a ``Run``. It walks over ``run.steps``, calls the network with
``run.denoise`` and combines what it gets; the trace of that walk is the program::

    def euler(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + then.sigma * d.eps
        return x
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from revstep.engine.errors import ProgramError
from revstep.engine.program.guidance import GuidanceWeight, guidance_weight
from revstep.engine.program.points import Point, training_end
from revstep.engine.program.vector import (
    NotAVector,
    Place,
    Symbol,
    Tape,
    Vector,
    number_of,
    refuse_stranger,
    sampler_line,
)
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.prediction import x0_coefficients


@dataclasses.dataclass(frozen=True)
class Estimate(NotAVector):
    """What one network call gives, as vectors.

    Attributes:
        m: The network's output, after guidance.
        x0: The denoised estimate, clipped where the run clips.
        eps: The noise, (x - alpha x0) / sigma: re-derived from the clipped x0.
        raw_eps: The noise from the network's output alone, never clipped.
    """

    m: Vector
    x0: Vector
    eps: Vector
    raw_eps: Vector


@dataclasses.dataclass(slots=True)
class Row:
    """One network call and the update that follows it."""

    at: Point
    p_x: float
    p_m: float
    weight: float
    line: Place
    to: Point
    update: Vector | None = None
    arrive: Point | None = None
    log_betas: tuple[float, float] | None = None


class Run:
    """What a sampler sees: the grid, the state and the network.

    Attributes:
        spec: The denoiser's spec.
        steps: Pairs (now, then) of points.
        clip: Whether x0 is clipped.
        compat: ``diffusers`` where a sampler should reproduce that library's choices.
        start: (alpha, sigma) of the initial state alpha y + sigma z.
    """

    def __init__(
        self,
        spec: DenoiserSpec,
        steps: Sequence[tuple[Point, Point]],
        *,
        clip: bool,
        compat: str | None = None,
        guidance_weight: GuidanceWeight | None = None,
    ) -> None:
        self.spec = spec
        self.steps = tuple(steps)
        self.clip = clip
        self.compat = compat
        self.start = (self.steps[0][0].alpha, self.steps[0][0].sigma)
        self._guidance_weight = guidance_weight
        self.rows: list[Row] = []
        self.tape = Tape()
        self._noisy_row = -1

    @property
    def x(self) -> Vector:
        """The initial state, at the first point of the grid."""
        return self._symbol("x", 0)

    def _symbol(self, kind: str, row: int | None = None) -> Vector:
        symbol = Symbol(self.tape.row if row is None else row, kind)
        return Vector._of({symbol: 1.0}, self.tape)

    def _sum(self, *terms: tuple[float, str]) -> Vector:
        """The sum of factors times symbols of this row: at once, as every call makes some."""
        row = self.tape.row
        return Vector({Symbol(row, kind): factor for factor, kind in terms}, self.tape)

    def denoise(
        self,
        x: Vector,
        at: Point,
        *,
        to: Point | None = None,
        weight: float = 1.0,
        estimate: tuple[float, float] | None = None,
    ) -> Estimate:
        """Calls the network on ``x`` at the point ``at``.

        Afterwards ``x`` is the state symbol of this call: the same value, named anew.

        Args:
            x: The state to evaluate; the first call takes ``run.x``.
            at: The point where the network is called.
            to: Where the row goes, for a network of two times; None is ``at``: what the network
                says of that time itself, the velocity of an average one. ``jump`` is the usual way.
            weight: w of the effective guidance 1 + w (g - 1) of this call, times the run's own
                weight over time.
            estimate: (p_x, p_m) of another estimate x0 = p_x x + p_m m than the prediction's, as
                consistency models have it.
        """
        number = len(self.rows)
        self._check_call(x, at, to)
        goal = at if to is None else to
        if number:
            self._close(x, at)
        elif x.terms != self.x.terms:
            raise ProgramError(f"the first network call must be on run.x ({sampler_line()})")
        if estimate is not None:
            p_x, p_m = _finite("two finite numbers (p_x, p_m) as estimate", estimate, 2)
        else:
            p_x, p_m = x0_coefficients(
                self.spec.prediction,
                at.alpha,
                at.sigma,
                training_end=self._training_end(at),
                end=(goal.alpha, goal.sigma),
                sigma_data=self.spec.sigma_data,
            )
        plain = type(weight) is float and math.isfinite(weight)
        w = weight if plain else _finite("a finite number as weight", weight)[0]
        w *= guidance_weight(self._guidance_weight, at)
        self.rows.append(Row(at, p_x, p_m, w, sampler_line(), goal))
        self.tape.row = number
        x.rename(Symbol(number, "x"))
        m, raw = self._symbol("m"), self._sum((p_x, "x"), (p_m, "m"))
        x0 = self._symbol("0") if self.clip else raw
        raw_eps = eps = self._raw_eps(m, raw, at)
        if self.clip and at.sigma > 0.0:
            part = 1.0 / at.sigma
            eps = self._sum((part, "x"), (part * -at.alpha, "0"))
        return Estimate(m, x0, eps, raw_eps)

    def jump(self, x: Vector, at: Point, to: Point, *, weight: float = 1.0) -> Vector:
        """The state at ``to``, by one call of a network of two times on ``x`` at ``at``.

        Where ``to`` is the clean end it is x0, clipped where the run clips.

        Args:
            x: As for ``denoise``.
            at: The point where the network is called.
            to: The point that it is told to go to.
            weight: As for ``denoise``.
        """
        d = self.denoise(x, at, to=to, weight=weight)
        if to.sigma == 0.0:
            return to.alpha * d.x0
        match self.spec.prediction:
            case "jump":
                return d.m
            case "average_velocity":
                return self._symbol("x") + (to.t - at.t) * d.m
        return to.alpha * d.x0 + to.sigma * d.eps

    def start_at(self, alpha: float, sigma: float) -> None:
        """Starts the run at alpha y + sigma z instead of at the grid's first point.

        For samplers that add noise before their first network call.
        """
        self.start = (float(alpha), float(sigma))

    def ends_at(self, then: Point) -> bool:
        """Whether a step to ``then`` is the run's last, which adds no noise.

        Never with compat: other libraries add it, where their run doesn't end at sigma = 0.
        """
        return not self.compat and then is self.steps[-1][1]

    def noise(self) -> Vector:
        """Standard normal noise of this call's update; once per call."""
        if not self.rows:
            raise ProgramError(
                f"run.noise() comes after the first run.denoise() ({sampler_line()})"
            )
        number = len(self.rows) - 1
        if self._noisy_row == number:
            raise ProgramError(
                f"network call {number} draws noise twice ({sampler_line()}); one update adds one "
                "noise vector (scale it by the root of the summed variances)"
            )
        self._noisy_row = number
        return self._symbol("z")

    def learned_noise(self, log_beta: float, log_beta_tilde: float) -> Vector:
        """Noise whose log variance the network interpolates between the two given ones.

        log variance = f log_beta + (1 - f) log_beta_tilde with f = (v + 1) / 2, v the variance
        half of the output (Nichol & Dhariwal 2021, eq. 15).
        """
        if not self.spec.learned_variance:
            raise ProgramError(
                "learned noise needs a network with learned variance (spec.learned_variance)"
            )
        z = self.noise()
        self.rows[-1].log_betas = (log_beta, log_beta_tilde)
        return z

    def finish(self, x: object, arrive: Point) -> None:
        """Closes the last row: the sampler returned ``x``."""
        if not isinstance(x, Vector):
            raise ProgramError(f"a sampler returns its final state; got {type(x).__name__}")
        if not self.rows:
            raise ProgramError("the sampler made no network call")
        if x.tape is not self.tape:
            refuse_stranger("returns a vector of another run")
        self._close(x, arrive)

    def _check_call(self, x: object, at: object, to: object) -> None:
        if not isinstance(x, Vector):
            hint = ": its .x0, .eps or .m is one" if isinstance(x, Estimate) else ""
            raise ProgramError(
                f"run.denoise takes a state, a Vector; got {type(x).__name__} "
                f"({sampler_line()}){hint}"
            )
        if x.tape is not self.tape:
            refuse_stranger("calls the network on a vector of another run")
        if not isinstance(at, Point):
            raise ProgramError(
                f"run.denoise takes the point of the call, now or then of run.steps; got {at!r} "
                f"({sampler_line()})"
            )
        if to is None:
            return
        if not isinstance(to, Point):
            raise ProgramError(
                f"run.denoise takes the point that the row goes to, as then of run.steps; got "
                f"{to!r} ({sampler_line()})"
            )
        if self.spec.second_time is None:
            raise ProgramError(
                f"this sampler tells the network where a row goes ({sampler_line()}), which needs "
                "a network of two times, and the spec has no second_time: use another sampler, as "
                "'euler', or give the spec's second_time"
            )

    def _close(self, x: Vector, arrive: Point) -> None:
        row = self.rows[-1]
        x = Vector._of(x.local(), None)
        if row.log_betas is not None and x.own(len(self.rows) - 1, "z") not in (0.0, 1.0):
            raise ProgramError("learned noise carries its own scale; add it with factor 1")
        row.update, row.arrive = x, arrive

    def _raw_eps(self, m: Vector, x0: Vector, at: Point) -> Vector:
        match self.spec.prediction:
            case "epsilon":
                return m
            case "v_prediction":
                norm = at.alpha**2 + at.sigma**2
                return self._sum((at.sigma / norm, "x"), (at.alpha / norm, "m"))
            case "flow":
                total = at.alpha + at.sigma
                return self._sum((1.0 / total, "x"), (at.alpha / total, "m"))
            case "score":
                return self._sum((-at.sigma, "m"))
        if at.sigma == 0.0:
            raise ProgramError(
                f"a network that predicts {self.spec.prediction!r} says nothing of the noise where "
                "sigma = 0; start the grid at a noisier time"
            )
        return (self._symbol("x") - at.alpha * x0) / at.sigma

    def _training_end(self, at: Point) -> tuple[float, float] | None:
        return training_end(self.spec, at.t) if self.spec.prediction == "mean" else None


def _finite(wanted: str, given: object, count: int = 1) -> list[float]:
    """What a sampler gave ``run.denoise``, as ``count`` numbers."""
    values = given if count > 1 else (given,)
    if isinstance(values, Sequence) and len(values) == count:
        numbers = [number_of(value) for value in values]
        finite = [n for n in numbers if n is not None and math.isfinite(n)]
        if len(finite) == count:
            return finite
    raise ProgramError(f"run.denoise takes {wanted}; got {given!r} ({sampler_line()})")


Sampler = Callable[[Run], Vector]
