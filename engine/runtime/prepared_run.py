"""``PreparedRun``: a request whose form is settled, so that a call of it is only the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.checks import check_mapping
from revstep.engine.errors import ArgumentError, ArgumentTypeError
from revstep.engine.message import Argument, Message
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch, samples_per_batch
from revstep.engine.runtime.request import Request
from revstep.engine.runtime.resolve import batch_of, next_batch
from revstep.engine.runtime.runtime import Runtime, run_batches
from revstep.engine.runtime.samples import Samples
from revstep.engine.runtime.watch import Timing, Watch, X0Trace

Decode = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Conditions = dict[str, NDArray[Any]]
Given = tuple[Conditions, Conditions]

RAW = ("inputs", "null_inputs", "prompt", "negative_prompt")
VALUES = (
    *("seed", "guidance", "conditions", "null_conditions"),
    *RAW,
    *("start", "noise", "mask", "known"),
)
"""What a call may change."""


class Encode(Protocol):
    """What makes conditions of raw inputs, and latents of pictures."""

    def encode(self, request: Request) -> Request:
        """The request, with what encoders make of it."""
        ...

    def given(
        self, raw: Mapping[str, Any], before: Given, *, guided: bool
    ) -> tuple[Conditions, Conditions]:
        """Conditions and null conditions of those of ``RAW`` that a call gives; no others."""
        ...


class PreparedRun:
    """A request whose form is settled: what ``Engine.prepare`` gives.

    A control loop prepares once and calls it at every tick::

        policy = engine.prepare(1, steps=10, conditions={"observation": first})
        while running:
            action = policy(conditions={"observation": observe()}).x[0]

    The number of samples, the sampler, the steps and all else that makes the program stay; values
    may change from call to call. The bits are those of ``Engine.sample``. Thread-safe.

    Args:
        runtime: Where it runs.
        request: What was asked for.
        batch: Its values.
        program: Its program.
        steps: Steps asked for.
        batch_size: Max samples of a network call; None fills the batch range.
        fixed_rows: Rows of every network call, where they are fixed.
        watch: What is said where the network's output is not finite.
        decode: Decodes final states (n, *shape); None: they are not decoded.
        encode: Makes conditions of a request's raw inputs, and latents of its pictures.
        given: The raw inputs of both halves that were encoded.
    """

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        batch: Batch,
        program: StepProgram,
        *,
        steps: int,
        batch_size: int | None,
        fixed_rows: int | None,
        watch: Watch,
        decode: Decode | None,
        encode: Encode,
        given: Given = ({}, {}),
    ) -> None:
        self._runtime, self._spec = runtime, runtime.spec
        self._request, self._program = request, program
        self._batch_size, self._fixed_rows = batch_size, fixed_rows
        self._watch, self._decode, self._encode = watch, decode, encode
        self._like, self._given = batch, given
        self._size = samples_per_batch(self._spec, batch, batch_size, fixed_rows)
        asked = request.sampler
        self._sampler = asked if isinstance(asked, str) else repr(request.resolved_sampler)
        self._steps = steps
        images = self._spec.decoder if decode is not None and self._spec.decoder else self._spec
        self._value_range = images.value_range

    def __call__(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        guidance: float | ArrayLike | None = None,
        conditions: Mapping[str, ArrayLike] | None = None,
        null_conditions: Mapping[str, ArrayLike] | None = None,
        inputs: Mapping[str, ArrayLike] | None = None,
        null_inputs: Mapping[str, ArrayLike] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        start: ArrayLike | None = None,
        noise: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        known: ArrayLike | None = None,
        **unsupported: Never,
    ) -> Samples:
        """Draws samples. What is left out is as it was prepared.

        Args:
            seed: As in ``Engine.sample``; prepared without one, and None: drawn.
            guidance: As in ``Engine.sample``.
            conditions: Those that change, by name; others stay.
            null_conditions: Likewise.
            inputs: Those that change, by name; what their encoders give changes those conditions.
            null_inputs: Likewise, of the null conditions.
            prompt: Likewise.
            negative_prompt: Likewise.
            start: As in ``Engine.sample``, if it was prepared with one.
            noise: As in ``Engine.sample``.
            mask: As in ``Engine.sample``, if it was prepared with one.
            known: As in ``Engine.sample``, likewise.
            unsupported: None; what makes the program, or follows a run's steps, stays.

        Raises:
            ArgumentTypeError, ArgumentError: As ``Engine.sample``; and another form than prepared.
            NonFiniteError: The network gave NaN or infinity.
        """
        if unsupported:
            raise _stays(unsupported)
        asked = self._request
        seed = asked.seed if seed is None else seed
        own = {"given": conditions or (), "given_null": null_conditions or ()}
        conditions = _merged(asked.conditions, conditions, "conditions")
        null_conditions = _merged(asked.null_conditions, null_conditions, "null_conditions")
        given = (inputs, null_inputs, prompt, negative_prompt)
        if any(value is not None for value in given):
            raw = dict(zip(RAW, given, strict=True))
            guided = guidance is not None or len(self._like.guided) > 0
            made, nulls = self._encode.given({**raw, **own}, self._given, guided=guided)
            conditions = {**(conditions or asked.conditions or {}), **made}
            null_conditions = {**(null_conditions or asked.null_conditions or {}), **nulls}
        if guidance is start is mask is known is None:
            return self.draw(self.next_batch(seed, conditions, null_conditions, noise))
        others = {"guidance": guidance, "start": start, "noise": noise, "mask": mask,
                  "known": known}  # fmt: skip
        changed: dict[str, Any] = {name: v for name, v in others.items() if v is not None}
        self._check_form(changed)
        request = dataclasses.replace(
            asked, n=self._like.n, seed=seed,
            conditions=asked.conditions if conditions is None else conditions,
            null_conditions=asked.null_conditions if null_conditions is None else null_conditions,
            **changed,
        )  # fmt: skip
        return self.draw(batch_of(self._spec, self._encode.encode(request)))

    def __repr__(self) -> str:
        return f"PreparedRun({self._like.n} x {self._sampler}, {self._steps} steps)"

    def __reduce__(self) -> Never:
        """It holds buffers that are bound to a network, and belongs to its process."""
        raise TypeError(
            "a prepared run can't be copied or pickled: copy or send its engine, and call "
            "prepare() on that"
        )

    @property
    def program(self) -> StepProgram:
        """Its program."""
        return self._program

    @property
    def advice(self) -> Message:
        """What may help where the network's output is not finite."""
        return self._watch.advice

    @property
    def decodes(self) -> bool:
        """Whether ``samples`` runs a decoder."""
        return self._decode is not None

    @property
    def length(self) -> int:
        """Network calls of the run."""
        return self._program.length

    def next_batch(
        self,
        seed: int | Sequence[int] | None,
        conditions: Mapping[str, ArrayLike] | None,
        null_conditions: Mapping[str, ArrayLike] | None,
        noise: ArrayLike | None = None,
    ) -> Batch:
        """A batch of this form with other values: see ``resolve.next_batch``."""
        return next_batch(
            self._spec, self._request, self._like, seed, conditions, null_conditions, noise
        )

    def without_values(self) -> PreparedRun:
        """The same, holding no array of the caller's."""
        made = object.__new__(PreparedRun)
        vars(made).update(vars(self))
        made._request = dataclasses.replace(
            self._request, n=self._like.n, seed=None, conditions=None, null_conditions=None,
            noise=None,
        )  # fmt: skip
        made._like = self._like.with_values(self._like.seeds, {}, {}, None)
        return made

    def draw(
        self, batch: Batch, *, watch: Watch | None = None, timing: Timing | None = None
    ) -> Samples:
        """The samples of a batch of this form.

        Args:
            batch: The batch.
            watch: Who follows its steps.
            timing: Filled with the times in and outside the network.
        """
        size = self._size
        if len(batch.guided) != len(self._like.guided):
            size = samples_per_batch(self._spec, batch, self._batch_size, self._fixed_rows)
        watch = watch or self._watch
        x = run_batches(
            self._runtime, self._program, batch, size, self._fixed_rows, watch=watch, timing=timing
        )
        return self.samples(x, batch, watch.trace)

    def samples(
        self, x: NDArray[np.float32], batch: Batch, trace: X0Trace | None = None
    ) -> Samples:
        """The final states (n, *shape) of a batch of this form as samples, decoded if asked for."""
        return Samples(
            x=x,
            seeds=batch.seeds,
            sampler=self._sampler,
            steps=self._steps,
            calls=self._program.length,
            value_range=self._value_range,
            decoded=None if self._decode is None else self._decode(x),
            x0_trace=None if trace is None else trace.x0,
            x0_steps=() if trace is None else trace.steps,
        )

    def warm_up(self) -> None:
        """Makes what a call needs: buffers, the network bound to them, the program in place."""
        part = self._like.part(0, self._size)
        rows = self._fixed_rows or max(part.rows, self._spec.batch[0])
        self._runtime.place(self._program, part, rows)

    def _check_form(self, changed: Mapping[str, object]) -> None:
        for name in ("start", "mask"):
            if name in changed and getattr(self._request, name) is None:
                text = " was not among what was prepared, and the program is another with it: "
                message = Message(Argument(name), text, "prepare a run with ", Argument(name, ...))
                raise ArgumentError(message, name)


def _stays(given: Mapping[str, object]) -> ArgumentTypeError:
    name = min(given)
    return ArgumentTypeError(
        f"{name} is no argument of a call, which may change {', '.join(VALUES)}: what else "
        "engine.prepare takes stays, so prepare another run for it; what follows a run's steps is "
        "engine.sample's",
        name,
    )


def _merged(
    prepared: Mapping[str, ArrayLike] | None, given: Mapping[str, ArrayLike] | None, name: str
) -> Mapping[str, ArrayLike] | None:
    """Those that were prepared with those that are given over them; None: nothing is given."""
    if given is None:
        return None
    given = check_mapping(given, name, "{'label': [0, 1]}")
    return {**prepared, **given} if prepared else given
