"""What a request leaves to the encoders: raw inputs, prompts and pictures to what a run takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.errors import ArgumentError
from revstep.engine.parts.given import NONE, Given
from revstep.engine.runtime.request import RAW, Request
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.encoder import Tokenizer

if TYPE_CHECKING:
    from revstep.engine.parts.encoders import Encoders, Encoding
    from revstep.engine.parts.pictures import LatentEncoder

NOTHING: dict[str, Any] = dict.fromkeys(RAW)
STATES = ("start", "known")


class RequestEncoder:
    """Makes of a request one that has conditions and latents alone.

    Args:
        spec: The denoiser's spec.
        encoders: Its encoders; None: it has none.
        pictures: Its picture encoder; None: it has none.
    """

    def __init__(
        self, spec: DenoiserSpec, encoders: Encoders | None, pictures: LatentEncoder | None
    ) -> None:
        self._spec = spec
        self._given = encoders
        self.pictures = pictures
        # also where a request leaves all out
        self.always = encoders is not None and bool(spec.encoders)

    @cached_property
    def encoders(self) -> Encoders:
        """The encoders; where there are none, what says so."""
        from revstep.engine.parts.encoders import Encoders

        return self._given or Encoders(dataclasses.replace(self._spec, encoders=()), {}, _none)

    def concerns(self, request: Request) -> bool:
        """Whether there is anything to encode, or to refuse."""
        return (
            self.always
            or any(getattr(request, name) is not None for name in RAW)
            or (self.pictures is not None and any(map(self.pictures.takes, self._states(request))))
        )

    def plan(self, request: Request) -> Plan:
        """What is to be encoded, checked.

        Raises:
            ArgumentTypeError, ArgumentError: As ``Engine.sample``.
        """
        check_size(self._spec, request)
        check_texts(request)
        from revstep.engine.parts.encoders import Raw

        raw = Raw(
            inputs=request.inputs,
            null_inputs=request.null_inputs,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            given=_held(request.conditions),
            given_null=_held(request.null_conditions),
            guided=bool(np.any(np.asarray(request.guidance) != 1.0)),
        )
        if self.pictures is not None:
            for name in STATES:
                self.pictures.check(getattr(request, name), name)
        pictures = {
            name: self.pictures.pixels(value, name) for name in STATES
            if self.pictures is not None and self.pictures.takes(value := getattr(request, name))
        }  # fmt: skip
        return Plan(request, self.encoders.plan(raw), self.pictures, pictures)

    def encode(self, request: Request) -> Request:
        """The request, encoded; raises as ``Engine.sample``."""
        return self.plan(request).run() if self.concerns(request) else request

    def conditions(
        self, inputs: Mapping[str, ArrayLike] | None, prompt: str | Sequence[str] | None
    ) -> dict[str, NDArray[Any]]:
        """What the encoders give of inputs and a prompt; raises as ``Engine.encode``."""
        from revstep.engine.parts.encoders import Raw

        return self.encoders.given(Raw(inputs=inputs, prompt=prompt)).run()[0]

    def given(
        self, raw: Mapping[str, Any], before: Given = NONE, *, guided: bool
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """The conditions and null conditions of what is given, and no others.

        Args:
            raw: ``inputs``, ``null_inputs``, ``prompt`` and ``negative_prompt``, or None for each;
                and the names ``given`` and ``given_null``, which are not to be encoded too.
            before: Inputs that an encoder has where only others of its inputs are given.
            guided: Whether null conditions are needed.

        Raises:
            ArgumentTypeError, ArgumentError, NonFiniteError: As ``Engine.sample``.
        """
        from revstep.engine.parts.encoders import Raw

        return self.encoders.given(Raw(**raw, guided=guided), before).run()

    def _states(self, request: Request) -> list[ArrayLike | None]:
        return [getattr(request, name) for name in STATES]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A request whose conditions and latents are still to be made.

    Attributes:
        request: As it was asked.
        encoding: What the encoders make.
        pictures: The picture encoder.
        states: Those of its arguments that are pictures, as that encoder takes them.
    """

    request: Request
    encoding: Encoding
    pictures: LatentEncoder | None
    states: Mapping[str, NDArray[np.float32]]

    def __bool__(self) -> bool:
        """Whether a network has to run."""
        return bool(self.encoding) or bool(self.states)

    def placeholders(self) -> Request:
        """The request with valid values of the right shapes in the place of what is to come."""
        latents = {name: self._pictures.blank(value) for name, value in self.states.items()}
        return self._request(self.encoding.placeholders(), latents)

    def run(self) -> Request:
        """The request with what the networks make.

        Raises:
            NonFiniteError: NaN or infinity.
            BackendError: A network failed.
        """
        latents = {name: self._pictures.latents(v, name) for name, v in self.states.items()}
        return self._request(self.encoding.run(), latents)

    @property
    def _pictures(self) -> LatentEncoder:
        assert self.pictures is not None
        return self.pictures

    def _request(self, made: tuple[dict[str, Any], dict[str, Any]], latents: Any) -> Request:
        request, (conditions, nulls) = self.request, made
        changed = {**NOTHING, **latents}
        if conditions:  # an encoder may give more of them than are missing
            changed["conditions"] = {**conditions, **_held(request.conditions)}
        if nulls:
            changed["null_conditions"] = {**nulls, **_held(request.null_conditions)}
        if self.pictures is not None and request.mask is not None:
            changed["mask"] = self.pictures.mask(request.mask)
        return dataclasses.replace(request, **changed)


def check_size(spec: DenoiserSpec, request: Request) -> None:
    """Refuses a height or width other than the bundle's pictures have.

    Raises:
        ArgumentError: It is another, or the samples are no pictures.
    """
    shape = spec.shape if spec.decoder is None else spec.decoder.shape
    for name, axis in (("height", -2), ("width", -1)):
        value = getattr(request, name)
        if value is None:
            continue
        if len(shape) < 3:
            raise ArgumentError(
                f"{name} is for pictures; this bundle's samples are of shape {shape}", name
            )
        if value != shape[axis]:
            raise ArgumentError(
                f"{name}={value}, and this bundle makes pictures of {shape[-2]} x {shape[-1]} "
                "(height x width), which its compiled networks are fixed to: leave it out, or "
                f"export a bundle of that size (revstep export ... --size {_size(shape, request)})",
                name,
            )


def check_texts(request: Request) -> None:
    """Refuses a list of texts that are not as many as the samples, where those are known.

    Raises:
        ArgumentError: There are more or fewer.
    """
    n = request.n
    for name in ("prompt", "negative_prompt"):
        texts = getattr(request, name)
        if not isinstance(texts, list | tuple) or not texts:
            continue
        n = len(texts) if n is None and name == "prompt" else n
        if n is not None and len(texts) != n:
            raise ArgumentError(
                f"{name} is a list of {len(texts)} for {n} sample{'s' * (n != 1)}: give one text "
                "for all (no list), or one for each",
                name,
            )


def _size(shape: tuple[int, ...], request: Request) -> str:
    return f"{request.height or shape[-2]}x{request.width or shape[-1]}"


def _held(conditions: Mapping[str, ArrayLike] | None) -> dict[str, ArrayLike]:
    """Those that are given: None is as if the name was left out."""
    return {name: value for name, value in (conditions or {}).items() if value is not None}


def _none(tokenizer: Tokenizer) -> Never:
    raise AssertionError(f"no encoder names {tokenizer.file}")
