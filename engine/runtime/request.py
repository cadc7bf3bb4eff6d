"""``Request``: what is drawn, without an engine to draw it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.checks import (
    check_bool,
    check_mapping,
    check_number,
    check_one_of,
    check_whole,
    wrong_type,
)
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message
from revstep.engine.program.guidance import GuidanceWeight, check_guidance_weight
from revstep.engine.program.samplers import BaseSampler, resolve_sampler
from revstep.engine.program.table import FINALS
from revstep.engine.program.trace import Sampler
from revstep.engine.renamed import renamed_fields
from revstep.engine.spec.grids import Grid, resolve_grid
from revstep.engine.spec.sampler_choice import COMPAT, SamplerChoice

SEEDS = 1 << 64
DEFAULT_SAMPLER = "ddim"  # where neither the caller nor the spec names one
RAW = ("inputs", "null_inputs", "prompt", "negative_prompt", "height", "width")
"""What encoders are for; a run itself takes what they make of it."""
MAPPINGS = {
    "conditions": "{'label': [0, 1]}",
    "null_conditions": "{'label': [0, 1]}",
    "inputs": "{'image': pixels}",
    "null_inputs": "{'image': pixels}",
}


@renamed_fields(spacing="grid")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What ``Engine.sample`` draws, and later calls of services: a job that can be sent.

        request = revstep.Request(n=4, sampler="unipc", steps=12, seed=0)
        images = engine.sample(request).pil()
        more = dataclasses.replace(request, seed=4)

    Every field is the argument of ``Engine.sample`` of that name, with its default. What needs no
    spec is checked here; arrays are kept as they are given, and checked by the engine.

    Raises:
        ArgumentTypeError: A field of a wrong type; it is a ``TypeError``.
        ArgumentError: A field out of range, an unknown name, or one without the field that it goes
            with; it is a ``ValueError``. Both know their ``argument``.
    """

    n: int | None = None
    sampler: str | Sampler | SamplerChoice | None = None
    steps: int | None = None
    seed: int | Sequence[int] | None = None
    guidance: float | ArrayLike = 1.0
    guidance_weight: GuidanceWeight | None = None
    conditions: Mapping[str, ArrayLike] | None = None
    null_conditions: Mapping[str, ArrayLike] | None = None
    inputs: Mapping[str, ArrayLike] | None = None
    null_inputs: Mapping[str, ArrayLike] | None = None
    prompt: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = None
    height: int | None = None
    width: int | None = None
    start: ArrayLike | None = None
    strength: float | None = None
    mask: ArrayLike | None = None
    known: ArrayLike | None = None
    noise: ArrayLike | None = None
    grid: str | Grid | None = None
    compat: str | None = None
    clip: bool | None = None
    final: str | None = None
    decode: bool = True
    trace_x0: bool | Sequence[int] | None = None
    resolved_sampler: BaseSampler = dataclasses.field(init=False, repr=False)

    @classmethod
    def of(cls, n: int | Request | None, **others: Any) -> Request:
        """``n`` samples of the other fields; or ``n`` itself, where it is a whole request.

        Raises:
            ArgumentError: Another field beside a whole request.
        """
        if not isinstance(n, Request):
            return cls(n=n, **others)
        for name, value in others.items():
            default = DEFAULTS[name]
            if value is not default and not (isinstance(value, str | float) and value == default):
                text = (" is given beside a Request; leave it out, or draw dataclasses.replace("
                        f"request, {name}=...)")  # fmt: skip
                raise ArgumentError(Message(Argument(name), text), name)
        return n

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_names()
        self._check_pairs()
        for name, example in MAPPINGS.items():
            if (given := getattr(self, name)) is not None:
                self._set(name, check_mapping(given, name, example))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_counts(self) -> None:
        if self.n is not None:
            self._set("n", check_whole(self.n, "n", 1, numpy=True))
        for name in ("height", "width"):
            if (value := getattr(self, name)) is not None:
                self._set(name, check_whole(value, name, 1, numpy=True))
        if self.steps is not None:
            self._set("steps", check_whole(self.steps, "steps", numpy=True))
        if self.strength is not None:
            strength = check_number(self.strength, "strength", 0.0, 1.0, above=True, numpy=True)
            self._set("strength", float(strength))
        if self.clip is not None:
            self._set("clip", check_bool(self.clip, "clip", numpy=True))
        self._set("seed", checked_seed(self.seed))
        check_guidance_weight(self.guidance_weight)  # before a program is kept under its hash

    def _check_names(self) -> None:
        if isinstance(choice := self.sampler, SamplerChoice):
            self._set("sampler", resolve_sampler(choice) if choice.options else choice.name)
            self._set("compat", choice.compat if self.compat is None else self.compat)
        self._set("resolved_sampler", resolve_sampler(self.sampler or DEFAULT_SAMPLER))
        if self.grid is not None:
            resolve_grid(self.grid)
        for name, allowed in (("compat", COMPAT), ("final", FINALS)):
            if (given := getattr(self, name)) is None:
                continue
            if not isinstance(given, str):
                raise wrong_type(given, name, "a name or None")
            check_one_of(given, name, allowed, " or None")

    def _check_pairs(self) -> None:
        strength, start, mask, known = map(Argument, ("strength", "start", "mask", "known"))
        text: Message | None = None
        if self.strength is not None and self.start is None:
            text = Message(strength, " goes with ", start, ", the sample to begin from; pass both")
        elif self.known is not None and self.mask is None:
            text = Message(known, " goes with ", mask, ", which is 1 where it is kept; pass both")
        elif self.mask is not None and self.known is None and self.start is None:
            text = Message(
                *(mask, " needs the pixels that it keeps: pass ", known),
                *(", or ", start, " to keep those of the start"),
            )
        if text is not None:
            raise ArgumentError(text, next(p.name for p in text.parts if isinstance(p, Argument)))


class RequestArguments(TypedDict, total=False):
    """The arguments of a ``Request`` besides ``n`` and ``trace_x0``, by name; see its fields."""

    sampler: str | Sampler | SamplerChoice | None
    steps: int | None
    seed: int | Sequence[int] | None
    guidance: float | ArrayLike
    guidance_weight: GuidanceWeight | None
    conditions: Mapping[str, ArrayLike] | None
    null_conditions: Mapping[str, ArrayLike] | None
    inputs: Mapping[str, ArrayLike] | None
    null_inputs: Mapping[str, ArrayLike] | None
    prompt: str | Sequence[str] | None
    negative_prompt: str | Sequence[str] | None
    height: int | None
    width: int | None
    start: ArrayLike | None
    strength: float | None
    mask: ArrayLike | None
    known: ArrayLike | None
    noise: ArrayLike | None
    grid: str | Grid | None
    compat: str | None
    clip: bool | None
    final: str | None
    decode: bool


DEFAULTS = {f.name: f.default for f in dataclasses.fields(Request)}


def checked_seed(seed: object) -> int | tuple[int, ...] | None:
    """A caller's seed: an int, one int per sample, or None.

    Raises:
        ArgumentTypeError: A seed that is not an integer.
        ArgumentError: A seed outside 0 .. 2^64 - 1.
    """
    if seed is None:
        return None
    if type(seed) is int and 0 <= seed < SEEDS:
        return seed
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return _whole(seed)
    if isinstance(seed, str | bytes) or not hasattr(seed, "__len__"):
        raise wrong_type(seed, "seed", "an int, a sequence of ints, or None")
    return tuple(map(_whole, cast("Iterable[object]", seed)))


def sample_seeds(seed: int | Sequence[int] | None, n: int) -> NDArray[np.uint64]:
    """One 64-bit key per sample, uint64 (n,).

    Args:
        seed: A ``checked_seed``: an int S (sample i gets (S + i) mod 2^64), one int per sample, or
            None: drawn.
        n: Number of samples.

    Raises:
        ArgumentError: Seeds of another number than n.
    """
    if seed is None or isinstance(seed, int):
        first = int.from_bytes(os.urandom(8)) >> 1 if seed is None else seed
        if n == 1:
            return np.array([first], dtype=np.uint64)
        return np.uint64(first) + np.arange(n, dtype=np.uint64)  # wraps at 2^64
    if len(seed) != n:
        raise ArgumentError(
            f"got {len(seed)} seeds for {n} samples; give one each, or one int", "seed"
        )
    return np.array(seed, dtype=np.uint64)


def _whole(seed: object) -> int:
    return check_whole(seed, "seed", 0, SEEDS - 1, numpy=True, more=" = 2^64 - 1")
