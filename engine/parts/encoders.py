"""The encoders of an engine: raw inputs and prompts to conditions, once a request."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.checks import check_mapping, check_whole, got, wrong_type
from revstep.engine.errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendError,
    NonFiniteError,
)
from revstep.engine.message import Argument, Message
from revstep.engine.nearest import unknown_names
from revstep.engine.parts.given import NONE, Arrays, Given
from revstep.engine.parts.kept import KeptEncodings
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.encoder import Encoder, Tokenizer
from revstep.engine.spec.parts import Condition

Network = Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]]
"""An encoder's inputs by name, (rows, *shape) each, to its outputs, (rows, *shape) each."""


class Tokenize(Protocol):
    """What makes inputs of prompts."""

    def encode(self, prompts: Sequence[str]) -> Arrays:
        """The inputs by name, int64 (prompts, length) each."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """What a request says of conditions that encoders give; the arguments of ``Engine.sample``.

    Attributes:
        inputs, null_inputs, prompt, negative_prompt: As there.
        given: Names of the conditions that the request has.
        given_null: Names of its null conditions.
        guided: Whether the unconditional half is needed.
    """

    inputs: Mapping[str, ArrayLike] | None = None
    null_inputs: Mapping[str, ArrayLike] | None = None
    prompt: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = None
    given: Collection[str] = ()
    given_null: Collection[str] = ()
    guided: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What one encoder is to encode.

    Attributes:
        encoder: The encoder.
        inputs: (rows, *shape) each; None: the null values of its inputs.
        for_all: Whether it is one row for all samples.
    """

    encoder: Encoder
    inputs: Arrays | None
    for_all: bool


class Encoders:
    """The encoders of one bundle. Thread-safe.

    Args:
        spec: The denoiser's spec.
        networks: By the encoders' names.
        tokenizer: Gives what runs a tokenizer of the spec.
        keep: How many encodings are kept by the content of their inputs; 0: none.
        alone: Whether each row is encoded in a call of its own, so that its bits don't depend on
            others.
    """

    def __init__(
        self,
        spec: DenoiserSpec,
        networks: Mapping[str, Network],
        tokenizer: Callable[[Tokenizer], Tokenize],
        *,
        keep: int = 0,
        alone: bool = False,
    ) -> None:
        self._spec, self._networks, self._tokenizer = spec, networks, tokenizer
        self._kept = KeptEncodings(keep) if check_whole(keep, "keep_encodings", 0) else None
        self._alone = alone
        self._conditions = {c.name: c for c in spec.conditions}
        self._inputs = {c.name: (e, c) for e in spec.encoders for c in e.inputs}
        self._nulls: dict[str, Arrays] = {}

    def plan(self, raw: Raw, before: Given = NONE) -> Encoding:
        """What a request has encoded, its inputs checked and its prompts tokenised.

        Args:
            raw: What it says.
            before: Inputs that an encoder has where the request gives only others of its inputs.

        Raises:
            ArgumentTypeError, ArgumentError: An unknown name, or a value that its input can't have.
        """
        given = (
            self._given(raw.inputs, raw.prompt, "inputs", "prompt"),
            self._given(raw.null_inputs, raw.negative_prompt, "null_inputs", "negative_prompt"),
        )
        self._refuse_twice(given[0], raw.given, "condition", "inputs")
        self._refuse_twice(given[1], raw.given_null, "null condition", "null_inputs")
        half = self._pieces(given[0], before[0], raw.given, "inputs")
        other = self._pieces(given[1], before[1], raw.given_null, "null_inputs", raw.guided)
        return Encoding(self, half, other, given)

    def given(self, raw: Raw, before: Given = NONE) -> Encoding:
        """As ``plan``, of the encoders whose inputs are given; the others are left out."""
        asked = self.plan(raw, before)
        half, null_half = (
            [piece for piece in pieces if piece.inputs is not None]
            for pieces in (asked.half, asked.null_half)
        )
        return Encoding(self, half, null_half, asked.given)

    def _refuse_twice(self, given: Arrays, taken: Collection[str], kind: str, what: str) -> None:
        for name in given:
            if twice := sorted(set(self._inputs[name][0].conditions) & set(taken)):
                raise ArgumentError(
                    f"the {kind} {twice[0]!r} is given, and {name!r}, of which an encoder makes "
                    "it; leave one out",
                    what,
                )

    def _pieces(
        self, given: Arrays, before: Arrays, taken: Collection[str], what: str, needed: bool = True
    ) -> list[Piece]:
        """What each encoder is to encode for one half; nothing where that isn't needed."""
        found = []
        for encoder in self._spec.encoders if needed else ():
            names = [c.name for c in encoder.inputs]
            own = {name: given[name] for name in names if name in given}
            missing = [c for c in encoder.conditions if c not in taken]
            if own:
                own = {name: before[name] for name in names if name in before} | own
            elif not missing or not self._must_encode(encoder, missing):
                continue
            found.append(self._piece(encoder, own, what))
        return found

    def _must_encode(self, encoder: Encoder, missing: Sequence[str]) -> bool:
        """Whether null inputs stand in for conditions that have no null value of their own."""
        return encoder.nullable and any(self._conditions[c].null is None for c in missing)

    def run(self, pieces: Sequence[Piece]) -> Arrays:
        """The conditions that the pieces give, (rows, *shape), or (*shape) for all samples.

        Raises:
            NonFiniteError: An encoder gave NaN or infinity.
            BackendError: It failed.
        """
        found: Arrays = {}
        for piece in pieces:
            if piece.inputs is None:
                found |= self._null(piece.encoder)
                continue
            values = self._encode(piece.encoder, piece.inputs)
            found |= {k: v[0] for k, v in values.items()} if piece.for_all else values
        return found

    def placeholders(self, pieces: Sequence[Piece]) -> Arrays:
        """Valid values of the same shapes, before anything is encoded."""
        found: Arrays = {}
        for piece in pieces:
            rows = () if piece.for_all else (len(next(iter((piece.inputs or {}).values()))),)
            for name in piece.encoder.conditions:
                c = self._conditions[name]
                found[name] = np.broadcast_to(c.filler, (*rows, *c.shape))
        return found

    def _given(
        self,
        inputs: Mapping[str, ArrayLike] | None,
        prompt: str | Sequence[str] | None,
        what: str,
        prompt_name: str,
    ) -> Arrays:
        """The inputs that are given, in their dtypes; those of a prompt among them."""
        if inputs is None and prompt is None:
            return {}
        named = check_mapping(inputs or {}, what, "{'image': pixels}")
        if others := set(named) - set(self._inputs):
            raise ArgumentError(
                unknown_names(f"unknown name in {what}:", others, self._inputs), what
            )
        values = {}
        for name, value in named.items():
            c = self._inputs[name][1]
            try:
                values[name] = _rows(c, c.values(value, f"input {name!r}"))
            except ArgumentError as error:
                error.argument = what
                raise
        if prompt is not None:
            values |= self._tokens(prompt, prompt_name, values)
        return values

    def _tokens(self, prompt: object, name: str, values: Arrays) -> Arrays:
        one = isinstance(prompt, str)
        prompts = [prompt] if one else prompt
        allowed = "a text, or a list of texts, one for each sample"
        if not isinstance(prompts, list | tuple):
            raise wrong_type(prompt, name, allowed)
        if not prompts:
            raise ArgumentError(f"{name} is an empty list; give {allowed}", name)
        for text in prompts:
            if not isinstance(text, str):
                said = f"{name} must be {allowed}; got a list with {got(text)}"
                raise ArgumentTypeError(said, name)
        tokens: Arrays = {}
        for encoder in self._spec.encoders:
            for t in encoder.tokenizers:
                tokens |= self._tokenizer(t).encode(prompts)
        if not tokens:
            raise ArgumentError(
                f"{name} is text, and no encoder of this bundle takes any; its encoders take: "
                f"{', '.join(self._inputs) or 'there are none'}",
                name,
            )
        if both := sorted(set(tokens) & set(values)):
            raise ArgumentError(
                f"{name} gives the input {both[0]!r}, which is given too; leave one out", name
            )
        return {k: v[0] if one else v for k, v in tokens.items()}

    def _piece(self, encoder: Encoder, own: Arrays, what: str) -> Piece:
        """An encoder's inputs, all of as many rows; null values where some are left out."""
        if not own:
            return Piece(encoder, None, True)
        counts = {len(v) for c in encoder.inputs if (v := own.get(c.name)) is not None
                  and v.shape != c.shape}  # fmt: skip
        if len(counts) > 1:
            sizes = ", ".join(f"{c.name} {own[c.name].shape}" for c in encoder.inputs
                              if c.name in own)  # fmt: skip
            raise ArgumentError(
                f"the inputs of encoder {encoder.name!r} have different numbers of rows: {sizes}",
                what,
            )
        rows = counts.pop() if counts else 1
        values: Arrays = {}
        for c in encoder.inputs:
            value = own.get(c.name)
            if value is None:
                if c.null is None:
                    needed = Argument(what, {c.name: ...})
                    text = f"encoder {encoder.name!r} needs its input {c.name!r} too; pass "
                    raise ArgumentError(Message(text, needed), what)
                value = c.filler
            values[c.name] = np.ascontiguousarray(
                value if value.shape != c.shape else np.broadcast_to(value, (rows, *c.shape))
            )
        return Piece(
            encoder, values, not any(own[n].shape != self._inputs[n][1].shape for n in own)
        )

    def _null(self, encoder: Encoder) -> Arrays:
        """What the null values of an encoder's inputs give, (*shape) each; computed once."""
        found = self._nulls.get(encoder.name)
        if found is None:
            values = self._run_network(encoder, {c.name: c.filler[None] for c in encoder.inputs})
            found = dict(zip(encoder.conditions, (v[0] for v in values), strict=True))
            self._nulls[encoder.name] = found
        return found

    def _encode(self, encoder: Encoder, inputs: Arrays) -> Arrays:
        if self._kept is None:
            values = self._run_network(encoder, inputs)
        else:
            run = functools.partial(self._run_network, encoder)
            values = self._kept.rows(encoder.name, inputs, run)
        return dict(zip(encoder.conditions, values, strict=True))

    def _run_network(self, encoder: Encoder, inputs: Arrays) -> Sequence[NDArray[Any]]:
        network = self._networks[encoder.name]
        rows = len(next(iter(inputs.values())))
        if self._alone and rows > 1:
            parts = [network({n: v[row : row + 1] for n, v in inputs.items()})
                     for row in range(rows)]  # fmt: skip
            values: Sequence[NDArray[Any]] = [np.concatenate(p) for p in zip(*parts, strict=True)]
        else:
            values = network(inputs)
        for name, value in zip(encoder.conditions, values, strict=True):
            if len(value) != rows:  # which may broadcast
                raise BackendError(
                    f"encoder {encoder.name!r} gave {len(value)} rows of the condition {name!r} "
                    f"for {rows}; an encoder gives a row for each"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NonFiniteError(
                    f"encoder {encoder.name!r} gave NaN or infinity for the condition {name!r}: "
                    "check its inputs' range"
                )
        return values


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """What a request has encoded: the conditional half, and the unconditional one.

    Attributes:
        encoders: The encoders.
        half, null_half: What each has encoded.
        given: The inputs that the request gives.
    """

    encoders: Encoders
    half: Sequence[Piece]
    null_half: Sequence[Piece]
    given: Given

    def __bool__(self) -> bool:
        return bool(self.half or self.null_half)

    def placeholders(self) -> tuple[Arrays, Arrays]:
        """Conditions and null conditions of the right shapes, before they are computed."""
        return self.encoders.placeholders(self.half), self.encoders.placeholders(self.null_half)

    def run(self) -> tuple[Arrays, Arrays]:
        """Conditions and null conditions; raises as ``Encoders.run``."""
        return self.encoders.run(self.half), self.encoders.run(self.null_half)


def _rows(c: Condition, array: NDArray[Any]) -> NDArray[Any]:
    """(rows, *shape), or (*shape) of one value for all samples.

    Raises:
        ArgumentError: Another shape.
    """
    if set(c.shape) == {1} and array.ndim == 1 and array.shape != c.shape:
        return array.reshape(-1, *c.shape)
    if array.shape == c.shape or (array.shape[1:] == c.shape and array.ndim and len(array)):
        return array
    raise ArgumentError(
        f"input {c.name!r} has shape {array.shape}; allowed: {c.shape} for all samples, or "
        f"(n, {', '.join(map(str, c.shape))})",
        "inputs",
    )
