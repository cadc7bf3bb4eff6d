"""``Engine``: a denoiser ready to be sampled, by any thread, with any sampler."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.denoiser import Denoiser
from revstep.engine.errors import Cancelled, NonFiniteError
from revstep.engine.loop import Timing
from revstep.engine.program import StepProgram, build_program
from revstep.engine.request import make_request
from revstep.engine.runner import CpuRunner, Runner, StepView
from revstep.engine.samplers import SAMPLERS, resolve_sampler
from revstep.engine.samples import Samples
from revstep.engine.spec import DenoiserSpec
from revstep.engine.trace import Sampler

__all__ = ["Engine", "Preview"]

DEFAULT_STRENGTH = 0.8  # of image-to-image, as diffusers has it
REPRODUCIBLE_ROWS = 16
PROGRAMS_KEPT = 64
NON_FINITE = {
    "fp16": "fp16 ends at 65504: use precision='bf16' or 'fp32', or check the conditions' range",
    "fp32": "check the conditions' range, or use precision='fp32'",
}

Decode = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What ``on_step`` is told after a step.

    Attributes:
        step: Steps done of this batch, from 1.
        steps: Steps of this batch.
        first: Number of the batch's first sample.
        x0: The denoised estimate so far, float32 (batch, *shape); the callee's own copy.
    """

    step: int
    steps: int
    first: int
    x0: NDArray[np.float32]


class Engine:
    """Samples a denoiser. Immutable after construction; all methods are thread-safe.

    Args:
        denoiser: The network, on a backend; None where a runner brings its own.
        decoder: Decodes final states (n, *shape) to (n, *decoder shape); optional.
        reproducible: Pad every network call to one fixed number of rows, so that a sample's bits
            don't depend on what else is in its batch.
        details: Further lines for ``describe``.
        runner: Where batches run; a ``CpuRunner`` of the denoiser if None.
    """

    def __init__(
        self,
        denoiser: Denoiser | None = None,
        *,
        decoder: Decode | None = None,
        reproducible: bool = False,
        details: Mapping[str, Any] | None = None,
        runner: Runner | None = None,
    ) -> None:
        if denoiser is None and runner is None:
            raise TypeError("an engine needs a denoiser or a runner")
        self._runner = runner or CpuRunner(cast(Denoiser, denoiser))
        self._decoder = decoder
        self._details = dict(details or {})
        least, most = self.spec.batch
        self._fixed_rows = max(least, min(most, REPRODUCIBLE_ROWS)) if reproducible else None
        told = {**self._runner.describe(), **self._details}
        self._advice = NON_FINITE.get(str(told.get("precision")), NON_FINITE["fp32"])
        self._program = lru_cache(maxsize=PROGRAMS_KEPT)(self._build)

    @property
    def spec(self) -> DenoiserSpec:
        """The denoiser's spec."""
        return self._runner.spec

    def describe(self) -> dict[str, Any]:
        """What runs: backend, versions, device, kernels, batch range; plain JSON values."""
        return {
            **self._runner.describe(),
            "reproducible": self._fixed_rows is not None,
            "batch": list(self.spec.batch),
            **self._details,
        }

    def sample(
        self,
        n: int | None = None,
        *,
        sampler: str | Sampler = "ddim",
        steps: int = 20,
        seed: int | Sequence[int] | None = None,
        guidance: float | ArrayLike = 1.0,
        conditions: Mapping[str, ArrayLike] | None = None,
        null_conditions: Mapping[str, ArrayLike] | None = None,
        start: ArrayLike | None = None,
        strength: float | None = None,
        noise: ArrayLike | None = None,
        spacing: str | None = None,
        compat: str | None = None,
        clip: bool | None = None,
        batch_size: int | None = None,
        decode: bool = True,
        progress: Callable[[int, int], object] | None = None,
        on_step: Callable[[Preview], object] | None = None,
        cancel: threading.Event | None = None,
        timing: Timing | None = None,
    ) -> Samples:
        """Draws ``n`` samples.

        Args:
            n: How many; None: as many as seeds, conditions, start or noise say, else 1.
            sampler: A name (``ddim``, ``ddpm``, ``dpmpp_2m``), a sampler such as ``DDIM(eta=1)``,
                or a function of a ``Run``.
            steps: 1 to the schedule's training steps.
            seed: An int S (sample i uses (S + i) mod 2^64), one int a sample, or None: drawn, and
                reported in the result.
            guidance: Classifier-free guidance g: uncond + g (cond - uncond); one number or (n,).
            conditions: name -> (n, *condition shape), or one value for all. One left out is its
                null value, where it has one.
            null_conditions: name -> value of the unconditional half (a negative prompt), instead
                of the spec's null value.
            start: Image-to-image: y of shape (n, *shape) or (*shape); the run starts at
                alpha y + sigma z.
            strength: With ``start``: only the last ceil(strength * steps) steps run; 0.8 if None.
            noise: Standard normal (n, *shape) to start from, instead of the seeds' own.
            spacing: ``trailing``, ``leading`` or ``linspace``; None is the spec's.
            compat: ``diffusers`` reproduces that library's stepping and start.
            clip: Whether the denoised estimate is clipped; None is the spec's.
            batch_size: Samples a network call at most; None fills the spec's batch range.
            decode: Whether a bundle's latent decoder runs on the result.
            progress: Called with (steps done, steps in all) after every step.
            on_step: Called with a ``Preview`` after every step.
            cancel: When set, the run ends at the next step with ``Cancelled``.
            timing: Filled with the times in and outside the network.

        Raises:
            TypeError: An argument of a wrong type.
            ValueError: An argument out of range, of a wrong shape, or an unknown name.
            ProgramError: The sampler can't run on this denoiser's schedule and prediction.
            NonFiniteError: The network gave NaN or infinity.
            Cancelled: ``cancel`` was set.
        """
        _check_types(steps, strength, clip, cancel)
        for name, text in (("spacing", spacing), ("compat", compat)):
            if not isinstance(text, str | None):
                raise TypeError(f"{name} must be a name or None; got {text!r}")
        if strength is not None and start is None:
            raise ValueError("strength goes with start, the sample to begin from; pass both")
        request = make_request(
            self.spec,
            n,
            seed=seed,
            guidance=guidance,
            conditions=conditions,
            null_conditions=null_conditions,
            start=start,
            noise=noise,
        )
        if start is not None and strength is None:
            strength = DEFAULT_STRENGTH
        resolved = resolve_sampler(sampler)
        arguments = (resolved, steps, spacing, compat, clip, strength or 1.0, start is None)
        if strength == 0.0:
            raise ValueError("strength=0.0 is out of range; it lies in (0, 1]")
        known = isinstance(resolved, tuple(SAMPLERS.values()))  # frozen: equal means the same
        program = (self._program if known else self._build)(*arguments)
        size = self._batch_size(batch_size, bool(np.any(request.batch.guidance != 1.0)))
        starts = range(0, request.n, size)
        out = np.empty((request.n, *self.spec.shape), dtype=np.float32)
        total = len(starts) * program.length
        for number, first in enumerate(starts):
            last = min(first + size, request.n)
            observer = _Observer(self.spec, first, program.length, progress, on_step, cancel)
            observer.done, observer.total = number * program.length, total
            observer.advice = self._advice
            observer.check_cancelled(0)
            batch = request.part(first, last)
            x = self._runner.run(
                program,
                batch,
                self._rows(batch.rows),
                observe=observer,
                want_x0=on_step is not None,
                timing=timing,
            )
            out[first:last] = x.reshape(last - first, *self.spec.shape)
        decoded = self._decoder(out) if self._decoder is not None and decode else None
        images = self.spec.decoder if decoded is not None and self.spec.decoder else self.spec
        return Samples(
            x=out,
            seeds=request.batch.seeds,
            sampler=sampler if isinstance(sampler, str) else repr(sampler),
            steps=steps,
            calls=program.length,
            value_range=images.value_range,
            decoded=decoded,
        )

    def _build(
        self,
        sampler: Sampler,
        steps: int,
        spacing: str | None,
        compat: str | None,
        clip: bool | None,
        strength: float,
        from_noise: bool,
    ) -> StepProgram:
        return build_program(
            self.spec,
            sampler,
            steps,
            spacing=spacing,
            compat=compat,
            clip=clip,
            strength=strength,
            from_noise=from_noise,
        )

    def _batch_size(self, asked: int | None, guided: bool) -> int:
        """Samples a batch: a guided sample takes two network rows."""
        rows = 2 if guided else 1
        most = (self._fixed_rows or self.spec.batch[1]) // rows
        if most < 1:
            raise ValueError(
                "guidance needs 2 network rows a sample; this denoiser takes "
                f"{self.spec.batch[1]}: export it with a larger batch range, or use guidance=1"
            )
        if asked is None:
            return most
        if isinstance(asked, bool) or not isinstance(asked, (int, np.integer)):
            raise TypeError(f"batch_size must be a whole number; got {asked!r}")
        if not 1 <= asked <= most:
            raise ValueError(
                f"batch_size={asked} is out of range; with {rows} network row(s) a sample this "
                f"engine takes 1 to {most}: export with a larger batch range for more"
            )
        return int(asked)

    def _rows(self, needed: int) -> int:
        return self._fixed_rows or max(needed, self.spec.batch[0])


def _check_types(steps: object, strength: object, clip: object, cancel: object) -> None:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be a whole number; got {steps!r}")
    if isinstance(strength, bool) or not isinstance(
        strength, (int, float, np.floating, type(None))
    ):
        raise TypeError(f"strength must be a number in (0, 1]; got {strength!r}")
    if not isinstance(clip, (bool, np.bool_, type(None))):
        raise TypeError(f"clip must be True, False or None; got {clip!r}")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise TypeError(f"cancel must be a threading.Event; got {type(cancel).__name__}")


class _Observer:
    """After every step: non-finite output, progress, preview, cancellation."""

    def __init__(
        self,
        spec: DenoiserSpec,
        first: int,
        steps: int,
        progress: Callable[[int, int], object] | None,
        on_step: Callable[[Preview], object] | None,
        cancel: threading.Event | None,
    ) -> None:
        self.spec, self.first, self.steps = spec, first, steps
        self.progress, self.on_step, self.cancel = progress, on_step, cancel
        self.done = self.total = 0
        self.advice = NON_FINITE["fp32"]

    @property
    def every_step(self) -> bool:
        """Whether anybody wants to know of single steps; else the last one is enough."""
        return any(f is not None for f in (self.progress, self.on_step, self.cancel))

    def __call__(self, number: int, view: StepView) -> None:
        flags = view.flags()
        if flags.any():
            bad = [self.first + int(i) for i in np.flatnonzero(flags)]
            by = "at" if self.every_step or number + 1 < self.steps else "by"
            raise NonFiniteError(
                f"the network gave NaN or infinity {by} step {number + 1} of {self.steps}, for "
                f"sample {', '.join(map(str, bad[:8]))}{' ...' if len(bad) > 8 else ''}: "
                f"{self.advice}"
            )
        if self.progress is not None:
            self.progress(self.done + number + 1, self.total)
        if self.on_step is not None:
            x0 = view.x0().reshape(-1, *self.spec.shape)
            self.on_step(Preview(number + 1, self.steps, self.first, x0))
        self.check_cancelled(number + 1)

    def check_cancelled(self, done: int) -> None:
        """Ends the run if the caller asked for it."""
        if self.cancel is not None and self.cancel.is_set() and self.done + done < self.total:
            raise Cancelled(f"cancelled after {self.done + done} of {self.total} steps")
