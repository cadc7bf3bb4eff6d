"""``RevstepScheduler``: a diffusers scheduler as it was, but for its step."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from revstep.engine.errors import ArgumentError, ArgumentTypeError, ProgramError
from revstep.engine.program.samplers import BaseSampler
from revstep.export.compat.classes import as_it_is, class_of, diffusers_library
from revstep.export.compat.counterpart import counterpart
from revstep.export.compat.family import Family
from revstep.export.compat.noise import before_noise, draw_noise, learned_noise
from revstep.export.compat.options import step_options
from revstep.export.compat.run import Run
from revstep.export.compat.runs import Runs

X0 = "pred_original_sample"
LEARNED = ("learned", "learned_range")
EPSILON_CHANNELS = 3  # what diffusers' multistep solver takes of an output with a variance


class RevstepScheduler:
    """A drop-in for a pipeline's scheduler, whose ``step`` is one pass of revstep's kernels.

    ::

        pipe.scheduler = RevstepScheduler.from_scheduler(pipe.scheduler)

    What it makes is an instance of this class and of the original one: it has the original's
    config, timesteps, sigmas, noise and methods, and is saved as the original. Only ``step`` (and
    ``scale_model_input``) is revstep's: rows of a table, traced from the sampler that the config
    means over the points of the scheduler's own tables. The results are the original's, to the
    rounding of float32, with noise of the same generator.

    Attributes:
        revstep_sampler: The sampler that the rows are traced from.
    """

    _family: Family  # of the class made, as the next four
    _output: type[Any]
    _beside: str | None  # the second part of what a step gives
    _defaults: dict[str, Any]
    _counts: bool  # whether calls go by their number, not by the timestep
    _follows: bool  # whether by the timestep and those before it
    _runs: Runs | None = None
    _read: Any = None  # the config that they are for: some schedulers change theirs
    _run: Run | None = None
    _given: dict[str, Any] = {}  # noqa: RUF012  (replaced, never changed)
    _splits: bool = False
    _step_index: int | None = None
    _began: bool = False

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Refuses what is of no original class."""
        if not hasattr(cls, "_family"):
            raise TypeError(
                "RevstepScheduler is made from a scheduler: "
                "RevstepScheduler.from_scheduler(pipe.scheduler), from_config or from_pretrained"
            )
        return super().__new__(cls)

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> Any:
        """The scheduler with the fused step; the given one stays as it is.

        Args:
            scheduler: A scheduler of diffusers.

        Raises:
            ImportError: diffusers is not installed.
            ProgramError: The scheduler, or a setting of its config, has no counterpart here.
            TypeError: No scheduler.
        """
        if not isinstance(scheduler, diffusers_library().SchedulerMixin):
            raise ArgumentTypeError(
                "from_scheduler takes a scheduler of diffusers, such as pipe.scheduler; got "
                f"{type(scheduler).__name__}",
                "scheduler",
            )
        made_by = class_of(RevstepScheduler, type(scheduler).__name__)
        return made_by.from_config(as_it_is(scheduler.config, made_by))

    @classmethod
    def from_config(cls, config: Any, return_unused_kwargs: bool = False, **options: Any) -> Any:
        """The scheduler of a config, as ``pipe.scheduler.config`` and its file have it.

        Args:
            config: The config, with the class's name under ``_class_name``.
            return_unused_kwargs: Whether those of ``options`` that are no settings come back, too.
            options: Settings in place of the config's.

        Raises:
            As ``from_scheduler``; ArgumentError: The config doesn't name its class.
        """
        made_by = cls
        if "_family" not in vars(cls):
            name = config.get("_class_name") if hasattr(config, "get") else None
            if name is None:
                raise ArgumentError(
                    "the config doesn't say of which scheduler it is (_class_name); those of "
                    "schedulers that were not loaded from a file don't. Use "
                    "from_scheduler(pipe.scheduler)",
                    "config",
                )
            made_by = class_of(RevstepScheduler, name)
            config = as_it_is(config, made_by)
        made = super(RevstepScheduler, made_by).from_config(  # type: ignore[misc]
            config, return_unused_kwargs=return_unused_kwargs, **options
        )
        (made[0] if return_unused_kwargs else made)._settle()
        return made

    @classmethod
    def from_pretrained(cls, path: Any, subfolder: str | None = None, **options: Any) -> Any:
        """The scheduler of a folder; of a pipeline's with ``subfolder="scheduler"``.

        Raises:
            As ``from_scheduler``; OSError: There is no such folder.
        """
        if "_family" in vars(cls):
            return super().from_pretrained(path, subfolder, **options)  # type: ignore[misc]
        config = diffusers_library().DDIMScheduler.load_config(path, subfolder=subfolder)
        return cls.from_config(config, **options)

    def set_timesteps(self, *args: Any, **options: Any) -> None:
        """The original's: a new run."""
        super().set_timesteps(*args, **options)  # type: ignore[misc]
        if self._run is not None:
            self._run.restart()  # its rows are kept, its tensors not
        self._run, self._began = None, True

    def _scale_model_input(self, sample: torch.Tensor, timestep: Any) -> torch.Tensor:
        """The original's: the sample times a number of the call."""
        run = self._run
        if run is None or self._step_index is None:
            run = self._start(timestep, self._given)
            assert self._step_index is not None
        self.is_scale_input_called = True
        return sample * run.plan.inputs[run.number(self._step_index)]

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        *more: Any,
        generator: Any = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
        **options: Any,
    ) -> Any:
        """The original's, in one pass; takes and gives what that does.

        Raises:
            ArgumentError: An option that no row has.
            ProgramError: Not the run's next call, or the sampler can't be a program over these
                timesteps.
        """
        if more:
            inspect.signature(self.step).bind(model_output, timestep, sample, *more, **options)
            named = dict(zip(self._defaults, more, strict=False))
            named = {"generator": generator, "return_dict": return_dict, **options, **named}
            named.setdefault("variance_noise", variance_noise)
            return self.step(model_output, timestep, sample, **named)
        run = self._run
        if run is None or options != self._given or (self._counts and self._step_index is None):
            run = self._start(timestep, options)
        number: int | None
        if self._counts:
            number = self._step_index - run.begin  # type: ignore[operator]
            if number != run.next or number >= len(run.draws):
                run.number(self._step_index)  # type: ignore[arg-type]
        elif self._follows:
            run, number = self._followed(run, int(timestep))
        elif (number := run.where.get(t := int(timestep))) is None:
            run = self._runs.at(self, t, run.options)  # type: ignore[union-attr]
            number = run.where[t]
        if self._splits:
            model_output, variance = self._split(model_output, sample)
        else:
            variance = None
        z = None
        if run.draws[number]:
            wide = self._family.wide_noise
            z = draw_noise(model_output, generator, variance_noise, wide=wide)
            if variance is not None:
                z = learned_noise(z, variance, run.rows.numbers[number])
        out, x0 = run.step(number, sample, model_output, z)
        if self._counts:
            self._step_index += 1  # type: ignore[operator]
        if self._beside is None:
            return self._output(prev_sample=out) if return_dict else (out,)
        if x0 is None:
            x0 = before_noise(out, z, run.rows.numbers[number])
        return self._output(out, x0) if return_dict else (out, x0)

    def _settle(self) -> Runs:
        """Finds what the config means; before the first step, or when it is made from a config."""
        spec, sampler = counterpart(self)
        variance = self.config.get("variance_type")  # type: ignore[attr-defined]
        self._splits = variance in LEARNED
        self._read = self.config  # type: ignore[attr-defined]
        self._runs = Runs(self._family, spec, sampler, gives_x0=self._beside == X0)
        return self._runs

    @property
    def revstep_sampler(self) -> BaseSampler:
        """The sampler that the rows are traced from."""
        return (self._runs or self._settle()).sampler

    def _start(self, timestep: Any, given: dict[str, Any]) -> Run:
        """The run that a call begins, or goes on with under options that say the same."""
        options = step_options(self._family.options, self._defaults, given)
        runs = self._runs
        if runs is None or self._read is not self.config:  # type: ignore[attr-defined]
            runs = self._settle()
        if not self._began and not hasattr(self, "previous_timestep"):
            raise ProgramError(
                f"set_timesteps(steps) comes before the first step of {type(self).__name__}"
            )
        run = self._run
        self._given = dict(given)
        going = run is not None and (not self._counts or self._step_index is not None)
        if run is not None and going and options == run.options:
            return run
        if run is not None and going and run.next and run.rows.stores:
            raise ArgumentError(
                f"step was called with {given}, and before in this run with {dict(run.options)}; "
                "what its calls stored is for those",
                "",
            )
        if self._counts:
            if self._step_index is None:
                self._init_step_index(timestep)  # type: ignore[attr-defined]
            self._run = runs.counted(self, options)
        else:
            self._run = runs.at(self, timestep, options)
        return self._run

    def _followed(self, run: Run, timestep: int) -> tuple[Run, int]:
        """The run and the row of a PLMS call; another run where it turns to other timesteps."""
        foreseen = run.plan.timesteps
        if run.next == len(foreseen) or foreseen[run.next] != timestep:
            assert self._runs is not None
            run = self._run = self._runs.turned(self, run, timestep)
        return run, run.next

    def _split(
        self, output: torch.Tensor, sample: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """An output with a variance, as its two halves."""
        channels = sample.shape[1]
        if self._family.kind == "timesteps":
            if output.shape[1] == 2 * channels:
                return output[:, :channels], output[:, channels:]
            return output, None
        return output[:, :EPSILON_CHANNELS], None

    def _first_of_pair(self) -> bool:
        return self._run is None or self._run.next % 2 == 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles name the original class, whose own one is another."""
        return _revived, (type(self).__name__,), vars(self)

    def __repr__(self) -> str:
        return f"RevstepScheduler of {super().__repr__()}"


def _revived(name: str) -> RevstepScheduler:
    made = class_of(RevstepScheduler, name)
    scheduler: RevstepScheduler = object.__new__(made)
    return scheduler
