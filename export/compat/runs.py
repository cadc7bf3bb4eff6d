"""The runs of one scheduler: planned when they begin, and kept for the next time."""

from __future__ import annotations

from typing import Any

from revstep.engine.errors import ProgramError
from revstep.engine.program.samplers import BaseSampler
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.compat.family import Family
from revstep.export.compat.plan import Options, make_plan
from revstep.export.compat.run import Run

KEPT = 8  # runs over other steps, or with other options


class Runs:
    """Makes and keeps runs.

    Attributes:
        sampler: What their rows are traced from.
    """

    def __init__(
        self, family: Family, spec: DenoiserSpec, sampler: BaseSampler, *, gives_x0: bool
    ) -> None:
        self.sampler = sampler
        self._family = family
        self._spec = spec
        self._gives_x0 = gives_x0
        self._kept: dict[Any, Run] = {}

    def counted(self, scheduler: Any, options: Options) -> Run:
        """A run from the scheduler's ``_step_index`` on."""
        begin = scheduler._step_index
        by = scheduler.timesteps if self._family.kind == "indices" else scheduler.sigmas
        return self._run(scheduler, begin, None, tuple(by.tolist()), options)

    def at(self, scheduler: Any, timestep: Any, options: Options) -> Run:
        """A run that begins at a timestep; any of DDIM's and DDPM's is part of one over all.

        Over all that have a step, that is: a predicted noise says nothing of x0 where alpha is 0.
        Who begins later, as from a picture, never comes there.
        """
        timesteps = [int(t) for t in scheduler.timesteps.tolist()]
        first = int(timestep)
        if self._family.kind == "plms":
            timesteps = timesteps[timesteps.index(first) :] if first in timesteps else [first]
        elif first not in timesteps:
            if hasattr(scheduler, "previous_timestep"):
                raise ProgramError(
                    f"timestep {first} is none of the scheduler's; its step goes to the next of "
                    "scheduler.timesteps"
                )
            timesteps = [first]
        elif self._spec.prediction == "epsilon":
            timesteps = [t for t in timesteps if t == first or scheduler.alphas_cumprod[t] > 0.0]
        return self._over(scheduler, timesteps, options)

    def turned(self, scheduler: Any, run: Run, timestep: int) -> Run:
        """A PLMS run whose next call is at another timestep than foreseen."""
        times = [int(t) for t in scheduler.timesteps.tolist()]
        done = [int(t) for t in run.plan.timesteps[: run.next]]
        rest = times[len(times) - times[::-1].index(timestep) :] if timestep in times else []
        return run.turned(self._over(scheduler, [*done, timestep, *rest], run.options))

    def _over(self, scheduler: Any, timesteps: list[int], options: Options) -> Run:
        what = (scheduler.num_inference_steps, *timesteps)
        return self._run(scheduler, 0, timesteps, what, options)

    def _run(
        self,
        scheduler: Any,
        begin: int,
        timesteps: list[int] | None,
        over: tuple[float, ...],
        options: Options,
    ) -> Run:
        key = (begin, over, options)
        run = self._kept.pop(key, None)
        if run is None:
            plan = make_plan(
                scheduler,
                self._family,
                self._spec,
                self.sampler,
                begin=begin,
                timesteps=timesteps,
                options=options,
            )
            run = Run(self._family, plan, options, begin, gives_x0=self._gives_x0)
        run.restart()
        self._kept[key] = run
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return run
