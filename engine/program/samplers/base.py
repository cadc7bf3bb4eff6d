"""What samplers share: a grid of their own choosing, a trace, and the checks of their options."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Hashable
from pathlib import Path
from typing import ClassVar

from revstep.engine.errors import ProgramError
from revstep.engine.program.diffusers_stepping import Stepping
from revstep.engine.program.points import Point
from revstep.engine.program.steps import Steps, steps_over
from revstep.engine.program.trace import Run, Sampler
from revstep.engine.program.vector import Vector
from revstep.engine.renamed import renamed
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid

OUT_OF_DOMAIN = ("math domain error", "expected a ")  # math's own, up to Python 3.13 and from 3.14


class BaseSampler(ABC):
    """A sampler: called on a ``Run``, it returns the final state.

    Attributes:
        stepping: What compat makes of the grid and of the spec's defaults; None leaves them.
        like_ddim: Whether a spec's ``final="first_ddim"`` is ``first`` for it.
    """

    stepping: ClassVar[Stepping | None] = None
    like_ddim: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, run: Run) -> Vector:
        """Walks over ``run.steps`` from ``run.x``; gives the final state."""

    @renamed(spacing="grid")
    def steps_over(
        self,
        spec: DenoiserSpec,
        steps: int | None,
        grid: str | Grid | None,
        compat: str | None,
    ) -> Steps:
        """The steps to walk over; with compat, those of the other library."""
        if compat and self.stepping is not None:
            return self.stepping.steps_over(spec, steps, grid)
        return steps_over(spec, steps, grid)


@dataclasses.dataclass(frozen=True)
class FunctionSampler(BaseSampler):
    """A plain function of a ``Run``."""

    function: Sampler

    def __call__(self, run: Run) -> Vector:
        """Calls the function."""
        try:
            x = self.function(run)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, ValueError) and not str(error).startswith(OUT_OF_DOMAIN):
                raise
            raise ProgramError(self._no_number(error, run)) from error
        if not isinstance(x, Vector):
            raise ProgramError(
                f"a sampler returns its final state; got {type(x).__name__} from {self._place()}"
            )
        return x

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        return str(name).rpartition("<locals>.")[2]

    def _place(self) -> str:
        code = getattr(self.function, "__code__", None)
        if code is None:
            return repr(self)
        return f"{self!r} ({Path(code.co_filename).name}, line {code.co_firstlineno})"

    def _no_number(self, error: Exception, run: Run) -> str:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        call = len(run.rows) - 1
        at = f" after network call {call}" + _described(run.rows[call].at) if run.rows else ""
        return (
            f"{self!r} has no number in {Path(where.filename).name}, line {where.lineno}{at}: "
            f"{error}. alpha is 0 at zero terminal SNR, sigma at the clean end: take the limit "
            "there, or another grid"
        )


def _described(at: Point) -> str:
    return f" (time {at.t:g}, alpha {at.alpha:g}, sigma {at.sigma:g})"


def sampler(function: Sampler) -> FunctionSampler:
    """Makes a function of a ``Run`` a sampler: what ``engine.sample(sampler=...)`` takes.

    The function is called on symbols. It must be affine in them, and each network call can leave
    one value for later ones (three are kept at a time)::

        @revstep.sampler
        def heun(run: revstep.samplers.Run) -> revstep.samplers.Vector:
            x = run.x
            for now, then in run.steps:
                h = then.sigma - now.sigma
                d = run.denoise(x, now)
                e = run.denoise(x + h * d.eps, then)
                x = x + h / 2 * (d.eps + e.eps)
            return x

    An engine keeps its program, so what else the function reads must not change. A function
    without the decorator may be given too; it is traced anew for every ``sample``.

    Raises:
        TypeError: ``function`` is no function, or nothing that a program can be kept under.
    """
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"@revstep.sampler goes on a function of a Run; got {function!r}")
    if isinstance(function, BaseSampler):
        raise TypeError(f"{function!r} is a sampler already; leave out @revstep.sampler")
    if not isinstance(function, Hashable):
        raise TypeError(f"@revstep.sampler needs a hashable function; got {function!r}")
    return FunctionSampler(function)


def noise_level(at: Point) -> float:
    """Sigma / alpha, the standard deviation of the noise in x / alpha: the sigma of Karras et al.

    Raises:
        ProgramError: At alpha = 0, where x / alpha has no limit.
    """
    if at.alpha == 0.0:
        raise ProgramError(
            f"this sampler works in x / alpha, which has no limit where alpha = 0 (time {at.t:g}): "
            "start later (another grid, such as a TimeGrid), or take 'euler', 'ddim', "
            "'dpmpp_2m', or on a flow schedule 'flow_heun'"
        )
    return at.sigma / at.alpha
