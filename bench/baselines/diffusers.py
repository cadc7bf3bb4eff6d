"""``diffusers``: that library's scheduler and network, in the loop of its pipelines."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.baselines.protocol import Baseline, Feed, Given
from revstep.bench.baselines.schedulers import Scheduling
from revstep.bench.baselines.torch_loop import network_of, tensors_of, threads_of
from revstep.engine.errors import ParityError
from revstep.engine.program.steps import default_steps

if TYPE_CHECKING:
    import torch

RANDOM = "randn_tensor"
"""What a scheduler's module draws with."""
LEARNED = ("learned", "learned_range")


def make(given: Given, scheduling: Scheduling) -> Baseline:
    """The baseline."""
    return SchedulerLoop(given, scheduling)


class SchedulerLoop:
    """Draws as a pipeline of diffusers does.

    Args:
        given: What to draw.
        scheduling: The scheduler.
    """

    def __init__(self, given: Given, scheduling: Scheduling) -> None:
        import diffusers
        import torch

        from revstep.export.sources.diffusers.modules import ScaledTime

        assert given.source is not None
        module = given.source.module
        if isinstance(module, ScaledTime):  # the scheduler's times are scaled already
            module = module.module
        self._network = network_of(given, module)
        self._own_sigmas = scheduling.own_sigmas
        self._given = given
        self._scheduler = scheduling.make()
        self._device = torch.device(given.device)
        self._conditions = tensors_of(given, self._device)
        self._takes = inspect.signature(self._scheduler.step).parameters
        config = self._scheduler.config
        self._learned = getattr(config, "variance_type", None) in LEARNED
        self.title = (
            f"diffusers {diffusers.__version__} {scheduling.name}, torch {torch.__version__}, "
            f"{given.precision}"
        )

    def sample(self, seed: int, feed: Feed | None = None) -> NDArray[np.float32]:
        """As ``Baseline.sample``."""
        import torch

        given, device = self._given, self._device
        generator = torch.Generator(device).manual_seed(seed)
        with torch.inference_mode(), threads_of(given):
            if feed is None:
                shape = (given.n, *given.spec.shape)
                noise = torch.randn(shape, generator=generator, device=device)
                return self._run(noise, generator)
            with self._fed(feed) as told:
                return self._run(torch.from_numpy(feed.noise).to(device), generator, told)

    def _run(
        self, x: torch.Tensor, generator: torch.Generator, told: _Told | None = None
    ) -> NDArray[np.float32]:
        scheduler = self._scheduler
        times = self._times()
        more: dict[str, Any] = {"generator": generator} if "generator" in self._takes else {}
        scale = getattr(scheduler, "scale_model_input", None)
        x = x * float(getattr(scheduler, "init_noise_sigma", 1.0))
        for number, t in enumerate(scheduler.timesteps):
            fed = x if scale is None else scale(x, t)
            out, m = self._output(fed, times[number])
            if told is not None:
                told.number = number
                told.feed.look(number, fed, m)
            x = scheduler.step(out, t, x, **more, return_dict=False)[0]
        found: NDArray[np.float32] = x.float().cpu().numpy()
        return found

    def _output(self, fed: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the scheduler takes, and what of it is no variance, guided."""
        import torch

        given = self._given
        both = fed if given.guidance is None else torch.cat([fed, fed])
        out = self._network(both, t.expand(given.rows), *self._conditions).float()
        channels = fed.shape[1]
        m, v = out[:, :channels], out[: given.n, channels:]
        if given.guidance is not None:
            with_it, without = m.chunk(2)
            m = without + given.guidance * (with_it - without)
        return (torch.cat([m, v], dim=1) if self._learned else m), m

    def _times(self) -> torch.Tensor:
        """What the network is fed, of the timesteps that are set."""
        cell, spec = self._given.work.cell, self._given.spec
        steps = cell.steps or default_steps(spec, spec.grid_of(None))
        if self._own_sigmas:  # as its pipeline
            self._scheduler.set_timesteps(
                sigmas=np.linspace(1.0, 1.0 / steps, steps), device=self._device
            )
        else:
            self._scheduler.set_timesteps(steps, device=self._device)
        times: torch.Tensor = self._scheduler.timesteps.float()
        wanted = self._given.program.length
        if len(times) != wanted:
            raise ParityError(
                f"{self.title} makes {len(times)} network calls, and this run {wanted}: it does "
                "not do the same work"
            )
        return times

    @contextlib.contextmanager
    def _fed(self, feed: Feed) -> Iterator[_Told]:
        """The scheduler draws the feed's noise: of the step that it is at."""
        import torch

        told = _Told(feed)

        def draw(*_: object, **__: object) -> torch.Tensor:
            return torch.from_numpy(feed.step(told.number)).to(self._device)

        module: Any = sys.modules[type(self._scheduler).__module__]
        own = getattr(module, RANDOM, None)
        if own is not None:
            setattr(module, RANDOM, draw)
        try:
            yield told
        finally:
            if own is not None:
                setattr(module, RANDOM, own)


@dataclasses.dataclass(slots=True)
class _Told:
    """Where a run is that is looked at.

    Attributes:
        feed: What it is given.
        number: Of the step.
    """

    feed: Feed
    number: int = 0
