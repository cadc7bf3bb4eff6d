"""``Engine``: a denoiser ready to be sampled, by any thread, with any sampler."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Never, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.checks import check_whole
from revstep.engine.encoding.requests import Plan, RequestEncoder
from revstep.engine.errors import ArgumentError, ArgumentTypeError
from revstep.engine.message import Argument, Message
from revstep.engine.parts.given import NONE, Given
from revstep.engine.program.guidance import GuidanceWeight
from revstep.engine.program.kept import kept_program
from revstep.engine.program.reductions import refuse_unknown
from revstep.engine.program.samplers import FunctionSampler, is_named
from revstep.engine.program.table import StepProgram, build_program
from revstep.engine.program.trace import Sampler
from revstep.engine.renamed import renamed
from revstep.engine.runtime.batch import Batch, samples_per_batch
from revstep.engine.runtime.buckets import fixed_rows
from revstep.engine.runtime.prepared_run import PreparedRun
from revstep.engine.runtime.request import RAW, Request, RequestArguments
from revstep.engine.runtime.resolve import (
    batch_of,
    program_arguments,
    with_own_values,
    with_sampler,
)
from revstep.engine.runtime.runtime import Runtime, host_runtime, run_batches
from revstep.engine.runtime.samples import Samples
from revstep.engine.runtime.watch import Preview, Timing, Watch, X0Trace
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid
from revstep.engine.spec.sampler_choice import SamplerChoice

if TYPE_CHECKING:
    from revstep.engine.parts.encoders import Encoders
    from revstep.engine.parts.pictures import LatentEncoder

__all__ = ["Engine", "Preview"]

PROGRAMS_KEPT = 256  # some samplers at every number of steps from 10 to 50
RUNS_KEPT = 256  # forms of requests, without their values
WATCHES = ("progress", "on_step", "trace_x0", "cancel", "timing")
FORM = (
    *("sampler", "steps", "guidance", "guidance_weight", "strength"),
    *("grid", "compat", "clip", "final", "decode"),
)
"""Arguments of a request that say what its run is, where nothing is known of the picture."""
LATER = (*RAW, "start", "known")  # what may have to be encoded
NON_FINITE = {
    "fp16": Message(
        "fp16 ends at 65504: use ",
        Argument("precision", "bf16"),
        " or 'fp32', or check the conditions' range",
    ),
    "bf16": Message("check the conditions' range, or use ", Argument("precision", "fp32")),
    "fp32": Message("check the conditions' range, and whether the module itself gives it"),
}

Decode = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Engine:
    """Samples a denoiser. Immutable after construction; all methods are thread-safe.

    Args:
        denoiser: The network, which runs on the CPU; or a ``Runtime``, which brings its device.
        decoder: Decodes final states (n, *shape) to (n, *decoder shape); optional.
        encoders: Give conditions of raw inputs and prompts; optional.
        picture_encoder: Gives latents of pictures; optional.
        reproducible: Pad every network call to one fixed number of rows, so that a sample's bits
            don't depend on what else is in its batch.
        details: Further lines for ``describe``.
        again: Makes an equal engine: what ``copy`` and ``pickle`` take in place of this one.
    """

    @renamed(runner="denoiser")
    def __init__(
        self,
        denoiser: Denoiser | Runtime,
        *,
        decoder: Decode | None = None,
        encoders: Encoders | None = None,
        picture_encoder: LatentEncoder | None = None,
        reproducible: bool = False,
        details: Mapping[str, Any] | None = None,
        again: Callable[[], Engine] | None = None,
    ) -> None:
        self._runtime = denoiser if isinstance(denoiser, Runtime) else host_runtime(denoiser)
        self._decoder = decoder
        self._encoder = RequestEncoder(self.spec, encoders, picture_encoder)
        self._again = again
        self._details = dict(details or {})
        self._fixed_rows = fixed_rows(self.spec.batch) if reproducible else None
        described = {**self._runtime.describe(), **self._details}
        self._advice = NON_FINITE.get(str(described.get("precision")), NON_FINITE["fp32"])
        self._build: Callable[..., StepProgram] = partial(build_program, self.spec)
        self._program: Callable[..., StepProgram] = lru_cache(maxsize=PROGRAMS_KEPT)(
            partial(kept_program, build_program, self.spec)
        )
        self._inversion: Callable[..., StepProgram] = lru_cache(maxsize=PROGRAMS_KEPT)(
            partial(kept_program, _inversion_program, self.spec)
        )
        self._runs: dict[tuple[Any, ...], PreparedRun] = {}

    def __reduce__(self) -> tuple[Callable[[], Engine], tuple[()]]:
        """An engine of a bundle is copied, and sent to another process, as its ``load`` call."""
        if self._again is None:
            raise TypeError(
                "only an engine that revstep.load made can be copied or pickled, as its load() "
                "call; call from_module in the other process, on a module that was sent there, or "
                "export the module and load its bundle there"
            )
        return self._again, ()

    @property
    def spec(self) -> DenoiserSpec:
        """The denoiser's spec."""
        return self._runtime.spec

    def describe(self) -> dict[str, Any]:
        """What runs: backend, versions, device, kernels, batch range; plain JSON values.

        ``parts`` says it of a bundle's networks beside the denoiser, by ``decoder``,
        ``picture_encoder`` and ``encoder.<name>``.
        """
        return {
            **self._runtime.describe(),
            "reproducible": self._fixed_rows is not None,
            "batch": list(self.spec.batch),
            **self._details,
        }

    @renamed(spacing="grid")
    def sample(
        self,
        n: int | Request | None = None,
        *,
        sampler: str | Sampler | SamplerChoice | None = None,
        steps: int | None = None,
        seed: int | Sequence[int] | None = None,
        guidance: float | ArrayLike = 1.0,
        guidance_weight: GuidanceWeight | None = None,
        conditions: Mapping[str, ArrayLike] | None = None,
        null_conditions: Mapping[str, ArrayLike] | None = None,
        inputs: Mapping[str, ArrayLike] | None = None,
        null_inputs: Mapping[str, ArrayLike] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        start: ArrayLike | None = None,
        strength: float | None = None,
        mask: ArrayLike | None = None,
        known: ArrayLike | None = None,
        noise: ArrayLike | None = None,
        grid: str | Grid | None = None,
        compat: str | None = None,
        clip: bool | None = None,
        final: str | None = None,
        batch_size: int | None = None,
        decode: bool = True,
        progress: Callable[[int, int], object] | None = None,
        on_step: Callable[[Preview], object] | None = None,
        trace_x0: bool | Sequence[int] | None = None,
        cancel: threading.Event | None = None,
        timing: Timing | None = None,
        **unsupported: Never,
    ) -> Samples:
        """Draws ``n`` samples.

        Args:
            n: How many; None: as many as seeds, conditions, start, noise, known or mask say, or 1.
                Or a ``Request``, which holds all that is drawn: then only ``batch_size`` and what
                watches the run go with it.
            sampler: A name of ``revstep.samplers.SAMPLERS`` (``ddim``, ``unipc``, ...), a sampler
                with options such as ``revstep.samplers.UniPC(order=3)``, or a function of a ``Run``
                (docs/own-sampler.md). None: the spec's own (``DenoiserSpec.sampler``, with its
                compat), and where it has none ``ddim``, or ``flow_map`` for a network of two times.
            steps: 1 to the schedule's training steps; None: 20, or what a given grid has.
            seed: An int S (sample i uses (S + i) mod 2^64), one int per sample, or None: drawn, and
                reported in the result.
            guidance: Classifier-free guidance g: uncond + g (cond - uncond); one number or (n,).
            guidance_weight: w of 1 + w (g - 1) over time, such as ``GuidanceInterval(0.3, 5)``.
            conditions: name -> (n, *condition shape), or one value for all. One left out is its
                null value, where it has one.
            null_conditions: name -> value of the unconditional half (a negative prompt), instead
                of the spec's null value.
            inputs: What the bundle's encoders take: name -> (n, *input shape), or one value for
                all. They run once, before the steps; a condition is given or encoded, not both.
            null_inputs: Likewise, of the unconditional half.
            prompt: Text for encoders that take text: one for all samples, or one for each.
            negative_prompt: Likewise, of the unconditional half; the empty prompt if None.
            height: Of the pictures; a bundle's are of one size.
            width: Likewise.
            start: Image-to-image: y of shape (n, *shape) or (*shape); the run starts at
                alpha y + sigma z. A bundle with a picture encoder takes pictures too, as arrays of
                the decoder's range or PIL images; likewise ``known``, and masks of their size.
            strength: With ``start``: only the last ceil(strength * steps) steps run; 0.8 if None.
                With ``compat="diffusers"`` int(strength * steps), which must not be 0, as in that
                library's image-to-image pipelines (on flow schedules ceil, as in SD3's).
            mask: Inpainting: 1 keeps the known pixel, 0 fills it, between them both are mixed; of a
                shape that broadcasts to (*shape), such as (H, W), or n of such. The sampler
                ``repaint`` makes holes agree best with what is around them.
            known: The known pixels, (n, *shape) or (*shape); ``start`` if None. Where the mask is 1
                they come out exactly. Without ``start`` the hole begins as noise.
            noise: Standard normal (n, *shape) to start from, instead of the seeds' own.
            grid: A grid's name, such as ``trailing`` or ``karras``, or a grid such as
                ``KarrasGrid(rho=5)``; None is the spec's.
            compat: ``diffusers`` is the run of that library's scheduler of the sampler's name: its
                calls, stepping, start, clipping and end (docs/diffusers-configs.md), and with
                ``start`` or ``mask`` those of its pipelines (docs/pipelines.md).
            clip: Whether the denoised estimate is clipped; None is the spec's.
            final: Where the run ends: ``clean`` (sigma = 0) or ``first`` (training index 0); None
                is the spec's.
            batch_size: Max samples per network call; None fills the spec's batch range.
            decode: Whether a bundle's latent decoder runs on the result.
            progress: Called with (steps done, steps in all) after every step.
            on_step: Called with a ``Preview`` after every step.
            trace_x0: Steps whose denoised estimates the result keeps as ``x0_trace``: numbers from
                1, where -1 is the last; or True: all.
            cancel: When set, the run ends at the next step with ``Cancelled``.
            timing: Filled with the times in and outside the network.
            unsupported: None; what other libraries have is refused by name, with the reason.

        Raises:
            ArgumentTypeError: An argument of a wrong type; it is a ``TypeError``.
            ArgumentError: An argument out of range, of a wrong shape, or an unknown name; it is a
                ``ValueError``. Both know their ``argument``.
            ProgramError: The sampler can't run on this denoiser's schedule and prediction.
            NonFiniteError: The network gave NaN or infinity.
            Cancelled: ``cancel`` was set.
        """
        if unsupported:
            refuse_unknown("sample has no argument", unsupported, ARGUMENTS)
        form: tuple[Any, ...] | None = None
        plain = start is None and mask is None and known is None
        raw = (inputs, null_inputs, prompt, negative_prompt, height, width)
        plain = plain and not self._encoder.always and all(value is None for value in raw)
        unwatched = progress is None and on_step is None and cancel is None and timing is None
        if plain and unwatched and trace_x0 is None:
            form = (n, type(n), sampler, steps, type(steps), guidance, type(guidance),
                    guidance_weight, strength, type(strength), grid, compat, clip, type(clip),
                    final, batch_size, type(batch_size), decode)  # fmt: skip
            if (run := self._run_of(form)) is not None:
                return run.draw(self._batch(run, seed, conditions, null_conditions, noise))
        request = Request.of(
            n,
            sampler=sampler, steps=steps, seed=seed,
            guidance=guidance, guidance_weight=guidance_weight,
            conditions=conditions, null_conditions=null_conditions,
            inputs=inputs, null_inputs=null_inputs,
            prompt=prompt, negative_prompt=negative_prompt, height=height, width=width,
            start=start, strength=strength, mask=mask, known=known, noise=noise,
            grid=grid, compat=compat, clip=clip, final=final,
            decode=decode, trace_x0=trace_x0,
        )  # fmt: skip
        watch = Watch(self._advice, progress, on_step, cancel)
        run, batch, encode = self._planned(request, batch_size)
        if request.trace_x0 is not None and request.trace_x0 is not False:
            trace = X0Trace(request.trace_x0, run.length, batch.n, self.spec.shape)
            watch = dataclasses.replace(watch, trace=trace)
        if encode is not None:
            batch = encode()
        samples = run.draw(batch, watch=watch, timing=timing)
        hashed = type(n) is int and type(guidance) in (float, int)  # no Request and no array
        if form is not None and hashed and _is_fixed(request):
            self._keep(form, run)
        return samples

    def prepare(
        self,
        n: int | Request | None = None,
        *,
        sampler: str | Sampler | SamplerChoice | None = None,
        steps: int | None = None,
        seed: int | Sequence[int] | None = None,
        guidance: float | ArrayLike = 1.0,
        guidance_weight: GuidanceWeight | None = None,
        conditions: Mapping[str, ArrayLike] | None = None,
        null_conditions: Mapping[str, ArrayLike] | None = None,
        inputs: Mapping[str, ArrayLike] | None = None,
        null_inputs: Mapping[str, ArrayLike] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        start: ArrayLike | None = None,
        strength: float | None = None,
        mask: ArrayLike | None = None,
        known: ArrayLike | None = None,
        noise: ArrayLike | None = None,
        grid: str | Grid | None = None,
        compat: str | None = None,
        clip: bool | None = None,
        final: str | None = None,
        batch_size: int | None = None,
        decode: bool = True,
        **unsupported: Never,
    ) -> PreparedRun:
        """A run that is checked, traced and bound now, so that a call of it is only the loop.

        For control loops, which draw the same again and again with other observations::

            policy = engine.prepare(1, steps=10, conditions={"observation": first})
            action = policy(conditions={"observation": observe()}, seed=tick).x[0]

        Args:
            n: As in ``sample``; the number stays, and so does all that makes the program.
            sampler: As in ``sample``.
            steps: As in ``sample``.
            seed: What a call has that gives none; None: drawn anew in each.
            guidance: What a call has that gives none.
            guidance_weight: As in ``sample``; it stays.
            conditions: What a call has of those that it doesn't give.
            null_conditions: Likewise.
            inputs: What a call has of those that it doesn't give.
            null_inputs: Likewise.
            prompt: What a call has that gives none.
            negative_prompt: Likewise.
            height: As in ``sample``.
            width: As in ``sample``.
            start: Likewise; with one, a call may give others.
            strength: As in ``sample``; it stays.
            mask: As ``start``.
            known: As ``start``.
            noise: What a call has that gives none, if any.
            grid: As in ``sample``; it stays.
            compat: As in ``sample``; it stays.
            clip: As in ``sample``; it stays.
            final: As in ``sample``; it stays.
            batch_size: As in ``sample``; it stays.
            decode: As in ``sample``; it stays.
            unsupported: None; what follows the steps of a run is refused by name.

        Raises:
            ArgumentTypeError, ArgumentError, ProgramError: As ``sample``.
        """
        for name in WATCHES:
            if name in unsupported:
                raise ArgumentTypeError(
                    f"{name} follows a run's steps, and a prepared run is its loop alone: call "
                    f"engine.sample(..., {name}=...)",
                    name,
                )
        if unsupported:
            allowed = [name for name in ARGUMENTS if name not in WATCHES]
            refuse_unknown("prepare has no argument", unsupported, allowed)
        request = Request.of(
            n,
            sampler=sampler, steps=steps, seed=seed,
            guidance=guidance, guidance_weight=guidance_weight,
            conditions=conditions, null_conditions=null_conditions,
            inputs=inputs, null_inputs=null_inputs,
            prompt=prompt, negative_prompt=negative_prompt, height=height, width=width,
            start=start, strength=strength, mask=mask, known=known, noise=noise,
            grid=grid, compat=compat, clip=clip, final=final, decode=decode,
        )  # fmt: skip
        if request.trace_x0 is not None and request.trace_x0 is not False:
            text = "trace_x0 follows a run's steps: leave it out of a request that is prepared"
            raise ArgumentError(text, "trace_x0")
        given: Given = NONE
        if self._encoder.concerns(request):
            plan = self._encoder.plan(request)
            self._resolved(plan.placeholders(), batch_size)  # checked before anything is encoded
            half, null_half = ({k: v.copy() for k, v in g.items()} for g in plan.encoding.given)
            request, given = plan.run(), (half, null_half)
        batch = batch_of(self.spec, request)
        run = self._prepared(with_own_values(request), batch, batch_size, given)
        run.warm_up()
        return run

    def _run_of(self, form: tuple[Any, ...]) -> PreparedRun | None:
        """The run of a form that was drawn before: numbers stand beside their types in it.

        1, 1.0 and True are equal, and only one of them may be allowed.
        """
        try:
            return self._runs.get(form)
        except (TypeError, ValueError):  # without a hash, or an array's equality
            return None

    def _keep(self, form: tuple[Any, ...], run: PreparedRun) -> None:
        """Has ``_run_of`` find a run; the oldest are given up."""
        self._runs[form] = run.without_values()
        for oldest in list(self._runs)[:-RUNS_KEPT]:  # a copy: other threads add
            self._runs.pop(oldest, None)

    def _batch(
        self,
        run: PreparedRun,
        seed: int | Sequence[int] | None,
        conditions: Mapping[str, ArrayLike] | None,
        null_conditions: Mapping[str, ArrayLike] | None,
        noise: ArrayLike | None,
    ) -> Batch:
        """The values of a request whose run is kept."""
        if self.spec.conditions or conditions is not None or null_conditions is not None:
            conditions = {} if conditions is None else conditions
            null_conditions = {} if null_conditions is None else null_conditions
        return run.next_batch(seed, conditions, null_conditions, noise)

    def resolve(
        self, n: int | Request | None = None, **arguments: Unpack[RequestArguments]
    ) -> tuple[PreparedRun, Batch]:
        """A request's run and values, checked: for who runs its steps themselves.

        Args:
            n: As in ``sample``.
            arguments: As in ``sample``.

        Raises:
            ArgumentTypeError, ArgumentError, ProgramError: As ``sample``.
        """
        form: tuple[Any, ...] | None = None
        given = arguments.get
        if self._encoder.always or any(given(name) is not None for name in RAW):
            return self._encoded_now(Request.of(n, **arguments))
        if given("start") is None and given("mask") is None and given("known") is None:
            # what is left out is not the None that a caller gives
            form = (n, type(n), *(pair for name in FORM for pair in _typed(given(name, ...))))
            if (run := self._run_of(form)) is not None:
                seed, conditions = arguments.get("seed"), arguments.get("conditions")
                nulls, noise = arguments.get("null_conditions"), arguments.get("noise")
                return run, self._batch(run, seed, conditions, nulls, noise)
        request = Request.of(n, **arguments)
        run, batch = self._encoded_now(request)
        hashed = type(n) is int and type(given("guidance", 1.0)) in (float, int)
        if form is not None and hashed and _is_fixed(request):
            self._keep(form, run)
        return run, batch

    def plan(
        self, n: int | Request | None = None, **arguments: Unpack[RequestArguments]
    ) -> tuple[PreparedRun, Batch, Callable[[], Batch] | None]:
        """``resolve``, but what encoders make is made later, by a call of the third value.

        Returns:
            The run; its values, with others of their shapes in the place of what is encoded; what
            encodes, and gives the values. None: there is nothing to encode.

        Raises:
            ArgumentTypeError, ArgumentError, ProgramError: As ``sample``.
        """
        raw = self._encoder.always or any(arguments.get(name) is not None for name in LATER)
        if not raw and not isinstance(n, Request):
            return *self.resolve(n, **arguments), None
        request = Request.of(n, **arguments)
        if not self._encoder.concerns(request):
            return *self.resolve(n, **arguments), None
        return self._planned(request)

    def _planned(
        self, request: Request, batch_size: int | None = None
    ) -> tuple[PreparedRun, Batch, Callable[[], Batch] | None]:
        """What ``plan`` gives: all of the request is checked, and no encoder has run."""
        if not self._encoder.concerns(request):
            return *self._resolved(request, batch_size), None
        plan = self._encoder.plan(request)
        if not plan:
            return *self._resolved(plan.run(), batch_size), None
        run, batch = self._resolved(plan.placeholders(), batch_size)
        return run, batch, partial(self._encoded, plan, batch)

    def _encoded(self, plan: Plan, like: Batch) -> Batch:
        request = dataclasses.replace(plan.run(), n=like.n, seed=tuple(map(int, like.seeds)))
        return batch_of(self.spec, request)

    def _encoded_now(self, request: Request) -> tuple[PreparedRun, Batch]:
        run, batch, encode = self._planned(request)
        return run, batch if encode is None else encode()

    def _resolved(self, request: Request, batch_size: int | None) -> tuple[PreparedRun, Batch]:
        batch = batch_of(self.spec, request)
        return self._prepared(request, batch, batch_size), batch

    @property
    def runtime(self) -> Runtime:
        """Where its batches run."""
        return self._runtime

    @property
    def decoder(self) -> Decode | None:
        """What makes (n, *decoder shape) of final states (n, *shape), both float32; or None."""
        return self._decoder

    @property
    def fixed_rows(self) -> int | None:
        """Network rows of every call, if it is ``reproducible``; None: as many as needed."""
        return self._fixed_rows

    def _prepared(
        self, request: Request, batch: Batch, batch_size: int | None, given: Given = NONE
    ) -> PreparedRun:
        """The run of a request, with its program; ``given`` are the inputs of its encoders."""
        request = with_sampler(self.spec, request)
        arguments = program_arguments(self.spec, request)
        program = (self._program if _is_fixed(request) else self._build)(**arguments)
        return PreparedRun(
            self._runtime,
            request,
            batch,
            program,
            steps=arguments["steps"],
            batch_size=batch_size,
            fixed_rows=self._fixed_rows,
            watch=Watch(self._advice),
            decode=self._decoder if request.decode else None,
            encode=self._encoder,
            given=given,
        )

    def encode(
        self,
        inputs: Mapping[str, ArrayLike] | None = None,
        *,
        prompt: str | Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The conditions that the bundle's encoders give, for ``sample(conditions=...)``.

        Args:
            inputs: As in ``sample``.
            prompt: As in ``sample``.

        Returns:
            name -> (n, *condition shape); (*condition shape) where all is one value for all.

        Raises:
            ArgumentTypeError, ArgumentError: As ``sample``; and nothing to encode.
            NonFiniteError: An encoder gave NaN or infinity.
        """
        if inputs is None and prompt is None:
            names = [c.name for e in self.spec.encoders for c in e.inputs]
            raise ArgumentError(
                "there is nothing to encode: pass inputs={...} or prompt=...; this bundle's "
                f"encoders take: {', '.join(names) or 'there are none'}",
                "inputs",
            )
        return self._encoder.conditions(inputs, prompt)

    def encode_pictures(self, pictures: Any) -> NDArray[np.float32]:
        """Latents of pictures, as ``start``, ``known`` and ``invert`` take them.

        Args:
            pictures: Floats (n, C, H, W) or (C, H, W) in the decoder's value range, bytes
                (n, H, W, C) or (H, W, C), a PIL image or a list of such.

        Returns:
            float32 (n, *shape), or (*shape) of one without an axis for rows.

        Raises:
            ArgumentTypeError, ArgumentError: Of another shape; or the bundle has no such encoder.
            NonFiniteError: The encoder gave NaN or infinity.
        """
        if self._encoder.pictures is None:
            raise ArgumentError(
                "this engine has no picture encoder: export a bundle with one "
                "(Checkpoint(picture_encoder=...)), or pass latents",
                "pictures",
            )
        return self._encoder.pictures(pictures)

    @renamed(spacing="grid")
    def invert(
        self,
        x0: ArrayLike,
        *,
        steps: int | None = None,
        iterations: int = 1,
        strength: float | None = None,
        guidance: float | ArrayLike = 1.0,
        conditions: Mapping[str, ArrayLike] | None = None,
        null_conditions: Mapping[str, ArrayLike] | None = None,
        grid: str | Grid | None = None,
        compat: str | None = None,
        clip: bool | None = None,
        batch_size: int | None = None,
        progress: Callable[[int, int], object] | None = None,
        cancel: threading.Event | None = None,
        timing: Timing | None = None,
    ) -> NDArray[np.float32]:
        """The noise from which DDIM of the same arguments gives ``x0`` back: its inversion.

            noise = engine.invert(x0, steps=50)
            again = engine.sample(sampler="ddim", noise=noise, steps=50).x

        The way back ends near ``x0``; the difference falls with ``steps`` and ``iterations``.

        Args:
            x0: Data (n, *shape) or (*shape), in the training data's units.
            steps: As in ``sample``.
            iterations: Network calls per step, each a fixed-point iteration towards what DDIM's own
                step undoes. 0 is the plain walk, one call per step too, at its noiseless side.
            strength: None inverts to pure noise, for ``sample(noise=noise)``. In (0, 1]: only as
                many steps as ``sample(start=x0, strength=strength, noise=noise)`` runs of the same
                compat: ceil(strength * steps), with ``diffusers`` int(strength * steps).
            guidance: As in ``sample``; other than 1, the way back is less exact.
            conditions: As in ``sample``.
            null_conditions: As in ``sample``.
            grid: As in ``sample``.
            compat: ``diffusers`` walks as that library's ``DDIMInverseScheduler``.
            clip: As in ``sample``; what is clipped away doesn't come back.
            batch_size: As in ``sample``.
            progress: As in ``sample``.
            cancel: As in ``sample``.
            timing: As in ``sample``.

        Returns:
            float32 (n, *shape).

        Raises:
            TypeError, ValueError, ProgramError, NonFiniteError, Cancelled: As ``sample``.

        References:
            Song, Meng & Ermon, "Denoising diffusion implicit models", 2021, section 4.3.
        """
        if x0 is None:
            raise ArgumentTypeError("x0 is the data to invert; got None", "x0")
        from revstep.engine.program.inversion import MAX_ITERATIONS, noise_from

        iterations = check_whole(iterations, "iterations", 0, MAX_ITERATIONS, numpy=True)
        request = Request(
            sampler="ddim", seed=0, start=x0, noise=np.zeros(self.spec.shape, np.float32),
            steps=steps, strength=1.0 if strength is None else strength, guidance=guidance,
            conditions=conditions, null_conditions=null_conditions,
            grid=grid, compat=compat, clip=clip,
        )  # fmt: skip
        watch = Watch(self._advice, progress, cancel=cancel)
        batch = batch_of(self.spec, request, "x0")
        arguments = program_arguments(self.spec, request)
        walk = ("steps", "grid", "compat", "clip", "strength")
        program = self._inversion(iterations=iterations, **{k: arguments[k] for k in walk})
        x = self._run(program, batch, batch_size, watch, timing)
        return noise_from(program, x, None if strength is None else batch.start)

    def _run(
        self,
        program: StepProgram,
        batch: Batch,
        batch_size: int | None,
        watch: Watch,
        timing: Timing | None,
    ) -> NDArray[np.float32]:
        size = samples_per_batch(self.spec, batch, batch_size, self._fixed_rows)
        return run_batches(
            self._runtime, program, batch, size, self._fixed_rows, watch=watch, timing=timing
        )


def _inversion_program(spec: DenoiserSpec, **arguments: Any) -> StepProgram:
    """As ``inversion_program``, which few processes need."""
    from revstep.engine.program.inversion import inversion_program

    return inversion_program(spec, **arguments)


def _is_fixed(request: Request) -> bool:
    """Whether equal samplers have equal programs: revstep's own, and functions with @sampler."""
    return isinstance(request.sampler, FunctionSampler) or is_named(request.resolved_sampler)


def _typed(value: object) -> tuple[object, type]:
    return value, type(value)


ARGUMENTS = tuple(inspect.signature(Engine.sample).parameters)[1:-1]
