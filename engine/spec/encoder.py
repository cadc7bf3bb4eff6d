"""The encoders of a bundle: networks that run once a request, before its steps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from revstep.engine.checks import (
    check_identifier,
    check_sequence,
    check_shape,
    check_type,
    check_whole,
)
from revstep.engine.nearest import unknown
from revstep.engine.spec.fields import SHAPE, fields_from
from revstep.engine.spec.parts import Condition

FILE = re.compile(r"tokenizer[\w-]*\.json")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """How a prompt becomes inputs of an encoder; the ``tokenizers`` package runs it.

    Attributes:
        file: Its file in the bundle, as ``tokenizers`` writes it: ``tokenizer.json``,
            ``tokenizer_2.json``, ...
        ids: The encoder's input that takes the ids, int64 (length,).
        mask: The encoder's input that takes 1 for ids of the prompt and 0 for those that pad,
            int64 (length,); None: it has none.
        length: How many ids there are: shorter prompts are padded, longer ones cut.
        pad: The id that pads.
    """

    file: str = "tokenizer.json"
    ids: str
    mask: str | None = None
    length: int
    pad: int

    def __post_init__(self) -> None:
        if not isinstance(self.file, str) or not FILE.fullmatch(self.file):
            raise ValueError(
                f"a tokenizer's file is named tokenizer.json, tokenizer_2.json or alike; got "
                f"{self.file!r}"
            )
        check_identifier(self.ids, "a tokenizer's ids")
        if self.mask is not None:
            check_identifier(self.mask, "a tokenizer's mask")
        check_whole(self.length, "a tokenizer's length", 1)
        check_whole(self.pad, "a tokenizer's pad", 0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A network that runs once a request: raw inputs to conditions of the denoiser.

    Attributes:
        name: Of the encoder: ``text``, ``observation``, ...
        inputs: Its inputs, in the order in which the module takes them. Where the denoiser's
            condition has no null value of its own, the unconditional half of guidance has what the
            inputs' null values give: the tokens of the empty prompt, say.
        conditions: The names of the denoiser's conditions that its outputs are, in their order.
        tokenizers: How a prompt becomes inputs; none where it takes no text.
    """

    name: str
    inputs: tuple[Condition, ...]
    conditions: tuple[str, ...]
    tokenizers: tuple[Tokenizer, ...] = ()

    def __post_init__(self) -> None:
        check_identifier(self.name, "an encoder's name")
        what = f"encoder {self.name!r}'s"
        inputs = check_sequence(self.inputs, f"{what} inputs", "a tuple of Condition")
        conditions = check_sequence(self.conditions, f"{what} conditions", "a tuple of names")
        tokenizers = check_sequence(self.tokenizers, f"{what} tokenizers", "a tuple of Tokenizer")
        for value in inputs:
            check_type(value, f"{what} inputs", Condition, "a tuple of Condition")
        for value in tokenizers:
            check_type(value, f"{what} tokenizers", Tokenizer, "a tuple of Tokenizer")
        for name in conditions:
            check_identifier(name, f"{what} conditions")
        if not inputs or not conditions:
            raise ValueError(f"{what} inputs and conditions are one each at least")
        for name, value in (("inputs", inputs), ("conditions", conditions)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "tokenizers", tokenizers)
        self._check_tokenizers()

    def _check_tokenizers(self) -> None:
        found = {c.name: c for c in self.inputs}
        taken: list[str] = []
        for tokenizer in self.tokenizers:
            for name in filter(None, (tokenizer.ids, tokenizer.mask)):
                if name not in found:
                    raise ValueError(unknown(f"input of encoder {self.name!r}", name, found))
                if (found[name].dtype, found[name].shape) != ("int64", (tokenizer.length,)):
                    raise ValueError(
                        f"encoder {self.name!r} gets {name!r} from a tokenizer, so it is int64 "
                        f"({tokenizer.length},); got {found[name].dtype} {found[name].shape}"
                    )
                taken.append(name)
        if len(set(taken)) != len(taken):
            raise ValueError(f"encoder {self.name!r}: two tokenizers give one input")

    @property
    def nullable(self) -> bool:
        """Whether every input has a null value."""
        return all(c.null is not None for c in self.inputs)

    def to_dict(self) -> dict[str, Any]:
        """The encoder as plain JSON values."""
        return {
            "name": self.name,
            "inputs": tuple(c.to_dict() for c in self.inputs),
            "conditions": self.conditions,
            "tokenizers": tuple(dataclasses.asdict(t) for t in self.tokenizers),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoder:
        """The encoder that ``to_dict`` wrote."""
        fields = fields_from(cls, values, "an encoder")
        fields["inputs"] = tuple(Condition.from_dict(c) for c in fields["inputs"])
        fields["tokenizers"] = tuple(
            Tokenizer(**fields_from(Tokenizer, t, "a tokenizer")) for t in fields["tokenizers"]
        )
        return cls(**fields)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PictureEncoder:
    """Pictures to latents: (encode(picture) - shift) * scale, with the decoder's shift and scale.

    Attributes:
        shape: Shape of a picture, of the decoder's value range.
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = check_sequence(self.shape, "the picture encoder's shape", SHAPE)
        object.__setattr__(self, "shape", shape)
        check_shape(self.shape, "the picture encoder's shape", empty=False)


def check_encoders(encoders: Sequence[Encoder], conditions: Sequence[Condition]) -> None:
    """Refuses encoders that don't fit the denoiser's conditions, or each other.

    Raises:
        ValueError: A name that is given twice, or that the denoiser doesn't have.
    """
    known = [c.name for c in conditions]
    for encoder in encoders:
        for name in encoder.conditions:
            if name not in known:
                what = f"condition, which encoder {encoder.name!r} gives:"
                raise ValueError(unknown(what, name, known or ["(none)"]))
    for what, names in (
        ("encoders' names", [e.name for e in encoders]),
        ("encoders' inputs", [c.name for e in encoders for c in e.inputs]),
        ("conditions that encoders give", [name for e in encoders for name in e.conditions]),
    ):
        if len(set(names)) != len(names):
            raise ValueError(f"the {what} must differ; got {', '.join(names)}")
