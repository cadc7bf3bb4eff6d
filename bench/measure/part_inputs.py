"""What a whole request asks for: prompts or raw inputs, as many as the cell has samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.encoder import Encoder

if TYPE_CHECKING:
    from revstep.bench.measure.measure import Work

PROMPT, NEGATIVE = "a red fox in the snow, oil on canvas", "blurry, low quality"
SHORT = "a"  # for encoders that would cut those, with a warning each time
ROOM = 48  # tokens that hold those, whatever tokens are


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request of a cell whose bundle has encoders.

    Attributes:
        arguments: Of ``Engine.sample``, beside the seed.
        said: What rows say of it: ``prompts``, ``negative_prompts`` and names of raw ``inputs``.
        parity: The bundle's reference, whose raw inputs these are.
        rows: Of the samples.
        away: Whether encoders of text also get what the samples are guided away from: one for all.
    """

    arguments: Mapping[str, Any]
    said: dict[str, Any]
    parity: Mapping[str, NDArray[Any]]
    rows: int
    away: bool

    @classmethod
    def of(cls, work: Work) -> Asked:
        """A prompt for each sample and, where they are guided, one negative prompt for all.

        Inputs of encoders that are no text are those of the reference. So are tokens, where the
        ``tokenizers`` package isn't installed.
        """
        spec, n = work.bundle.spec, work.cell.batch
        parity = work.bundle.parity()
        read = [t for encoder in spec.encoders for t in encoder.tokenizers]
        prompts = bool(read) and find_spec("tokenizers") is not None
        away = bool(read) and work.cell.guidance != 1.0
        made = {name for encoder in spec.encoders for name in encoder.conditions}
        given = {k: v for k, v in work.arguments["conditions"].items() if k not in made}
        arguments = {**work.arguments, "conditions": given, "decode": True}
        if prompts:
            room = min(t.length for t in read) >= ROOM
            arguments["prompt"] = [PROMPT if room else SHORT] * n
            if away:
                arguments["negative_prompt"] = NEGATIVE if room else SHORT
        texts = {name for t in read for name in (t.ids, t.mask)} if prompts else set()
        raw: dict[str, NDArray[Any]] = {}
        null_raw: dict[str, NDArray[Any]] = {}
        for encoder in spec.encoders:
            values = {c.name: parity[f"encoder.{encoder.name}.in.{c.name}"]
                      for c in encoder.inputs if c.name not in texts}  # fmt: skip
            raw |= {name: in_turn(value, n) for name, value in values.items()}
            if away and encoder.tokenizers:
                null_raw |= {name: value[0] for name, value in values.items()}
        arguments |= {"inputs": raw} if raw else {}
        arguments |= {"null_inputs": null_raw} if null_raw else {}
        said = {
            "prompts": n if prompts else 0,
            "negative_prompts": int(prompts and away),
            "inputs": sorted(raw),
        }
        return cls(arguments, said, parity, n, away)

    def rows_of(self, encoder: Encoder) -> tuple[int, ...]:
        """Rows of an encoder's calls in the request."""
        return (self.rows, 1) if self.away and encoder.tokenizers else (self.rows,)

    def inputs_of(self, encoder: Encoder, rows: int) -> dict[str, NDArray[Any]]:
        """Its inputs, from the reference, of so many rows."""
        key = f"encoder.{encoder.name}.in"
        return {c.name: in_turn(self.parity[f"{key}.{c.name}"], rows) for c in encoder.inputs}


def in_turn(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """So many rows of an array's, in turn."""
    return np.ascontiguousarray(values[np.arange(rows) % len(values)])
