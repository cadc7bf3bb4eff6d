"""The tensors of the sampling model: what a request may hold, and what a reply does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from revstep.engine.checks import check_whole, got
from revstep.engine.errors import ArgumentError
from revstep.engine.program.samplers.choice import chosen_sampler
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.sampler_choice import SamplerChoice

CONDITIONS = ("conditions", "null_conditions")
INPUTS = ("inputs", "null_inputs")
MAPPINGS = (*CONDITIONS, *INPUTS)
TYPES = {"bool": "BOOL", "int32": "INT32", "int64": "INT64", "float32": "FP32"}


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of the model.

    Attributes:
        name: Its name: the argument's of ``Service.submit``; ``conditions.label`` for one of
            several in a mapping.
        type: Triton's data type.
        dims: Its shape; -1 is any length.
        optional: Whether a request may leave it out.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    optional: bool = True


def inputs(spec: DenoiserSpec) -> tuple[Tensor, ...]:
    """What a request may hold.

    What each sample has of its own begins with an axis of samples, where a length of 1 is one value
    for all.
    """
    one, each = (1,), (-1,)
    states = (-1, *spec.shape)
    found = [
        Tensor("n", "INT32", one),
        Tensor("seed", "UINT64", each),
        Tensor("sampler", "STRING", one),
        Tensor("sampler_options", "STRING", one),
        Tensor("steps", "INT32", one),
        Tensor("guidance", "FP64", each),
        *(_condition(c, "conditions", spec) for c in spec.conditions),
        *(_condition(c, "null_conditions", spec) for c in spec.conditions if spec.guidable),
        *(_condition(c, name, spec) for name in INPUTS for e in spec.encoders for c in e.inputs),
        *_prompts(spec),
        Tensor("start", "FP32", states),
        Tensor("strength", "FP64", one),
        Tensor("mask", "FP32", (-1,) * len(states)),  # of any shape that broadcasts
        Tensor("known", "FP32", states),
        Tensor("noise", "FP32", states),
        Tensor("grid", "STRING", one),
        Tensor("compat", "STRING", one),
        Tensor("clip", "BOOL", one),
        Tensor("final", "STRING", one),
        Tensor("priority", "INT32", one),
        Tensor("deadline_s", "FP64", one),
    ]
    return tuple(found)


def outputs(spec: DenoiserSpec) -> tuple[Tensor, ...]:
    """What a reply holds: of these what the request asked for, or all."""
    decoder = spec.decoder
    states = Tensor("states", "FP32", (-1, *spec.shape))
    samples = Tensor("samples", "FP32", (-1, *(spec.shape if decoder is None else decoder.shape)))
    found = [samples] if decoder is None else [samples, states]
    return (*found, Tensor("seeds", "UINT64", (-1,)), Tensor("calls", "INT32", (1,)))


def arguments(
    given: Mapping[str, NDArray[Any]],
    max_samples: int,
    max_steps: int | None,
    choice: SamplerChoice | None = None,
) -> dict[str, Any]:
    """The arguments of ``Service.submit`` that a request's inputs are.

    Args:
        given: Input -> array, of the types and axes of ``inputs``.
        max_samples: Most samples of a request.
        max_steps: Most steps, or None.
        choice: The spec's own sampler.

    Raises:
        ArgumentError: More than that, or texts that are none.
    """
    found: dict[str, Any] = {}
    for name, array in given.items():
        mapping, _, key = name.partition(".")
        if mapping in MAPPINGS:
            found.setdefault(mapping, {})[key] = _each(array)
        else:
            found[name] = READERS.get(name, _one)(array, name)
        if name in PER_SAMPLE or mapping in MAPPINGS:
            _check_samples(len(array), max_samples)
    if "n" in found:
        check_whole(found["n"], "n", 1)
        _check_samples(found["n"], max_samples)
    if max_steps is not None and found.get("steps", 0) > max_steps:
        raise ArgumentError(
            f"steps={found['steps']} is out of range; this model takes {max_steps} at most", "steps"
        )
    if "sampler_options" in found:
        options = _options(found.pop("sampler_options"))
        found["sampler"] = chosen_sampler(found.get("sampler"), options, choice)
    return found


def _prompts(spec: DenoiserSpec) -> tuple[Tensor, ...]:
    """Text, where an encoder takes it: for all samples, or one for each."""
    if not any(e.tokenizers for e in spec.encoders):
        return ()
    return Tensor("prompt", "STRING", (-1,)), Tensor("negative_prompt", "STRING", (-1,))


def _condition(condition: Condition, mapping: str, spec: DenoiserSpec) -> Tensor:
    """A condition's input; one without a null value is needed, and Triton says so.

    What an encoder may give is not.
    """
    encoded = any(condition.name in e.conditions for e in spec.encoders)
    needed = mapping == "conditions" and condition.null is None and not encoded
    kind = TYPES[condition.interface]
    return Tensor(f"{mapping}.{condition.name}", kind, (-1, *condition.shape), optional=not needed)


def _check_samples(count: int, most: int) -> None:
    if count > most:
        raise ArgumentError(
            f"a request for {count} samples is too large; this model takes {most} at most: ask "
            "several times",
            "n",
        )


def _each(array: NDArray[Any], name: str = "") -> Any:
    """A value for each sample, or where there is one, that one for all."""
    return array[0] if len(array) == 1 else array


def _one(array: NDArray[Any], name: str) -> Any:
    """The one number."""
    return array.item()


def _text(array: Any, name: str) -> str:
    """The one text of an array, or of its element."""
    given = array.item() if hasattr(array, "item") else array
    try:
        return bytes(given).decode()
    except UnicodeDecodeError:
        raise ArgumentError(f"{name} must be UTF-8 text; got {given!r:.60}", name) from None


def _texts(array: NDArray[Any], name: str) -> Any:
    texts = [_text(value, name) for value in array]
    return texts[0] if len(texts) == 1 else texts


def _seeds(array: NDArray[Any], name: str) -> Any:
    return int(array[0]) if len(array) == 1 else array.tolist()


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ArgumentError(
            f'sampler_options must be a JSON object such as {{"eta": 0.5}}: {error}',
            "sampler_options",
        ) from None
    if not isinstance(options, dict):
        raise ArgumentError(
            f'sampler_options must be a JSON object such as {{"eta": 0.5}}; got {got(options)}',
            "sampler_options",
        )
    return options


READERS: dict[str, Callable[[NDArray[Any], str], Any]] = {
    **dict.fromkeys(("sampler", "sampler_options", "grid", "compat", "final"), _text),
    **dict.fromkeys(("guidance", "start", "known", "mask", "noise"), _each),
    **dict.fromkeys(("prompt", "negative_prompt"), _texts),
    "seed": _seeds,
}
PER_SAMPLE = frozenset({"seed", "guidance", "start", "known", "noise", "prompt", "negative_prompt"})
