"""How a user's module is called: inputs by position or by name, one tensor of what it returns.

Export, its reference and the live backend all call modules through ``ModuleCall``, so that they
can't disagree on it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import Parameter

from revstep.engine.backends.module.output import check_output, picked
from revstep.engine.errors import BackendError
from revstep.engine.log import log
from revstep.engine.spec.denoiser import DenoiserSpec

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
SELF_CONDITION = re.compile(r"self_?cond", re.IGNORECASE)


class CallError(BackendError):
    """A module whose ``forward`` can't take the spec's inputs."""


class ModuleCall(torch.nn.Module):
    """A module as (x, t, *rest) -> one tensor, whatever the form of its own call.

    The rest is the second time of a network of two, and the conditions.

    Conditions of a half dtype come in as float32. The module gets them in the spec's dtype; or,
    where it had weights of that dtype and was cast, in what became of those.

    Args:
        module: The user's module; used as it is.
        spec: Inputs go by position, in the spec's order. Keyword-only parameters go by the spec's
            names, and so do conditions that only a ``**kwargs`` can take.
        output: Which of several outputs: a key, field or attribute, or an index.

    Attributes:
        module: As given.

    Raises:
        CallError: ``forward`` wants an input that the spec doesn't name.
        TypeError: ``output`` is no name, index or None.
    """

    def __init__(
        self, module: torch.nn.Module, spec: DenoiserSpec, output: str | int | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self.training = False  # the module's own flags count, which its owner may turn
        self._output = check_output(output)
        self._names = _names(module, list(spec.input_names))
        self._halves = [_half(module, c.dtype) for c in spec.conditions]
        if spec.second_time is not None:
            self._halves.insert(0, None)

    def forward(self, x: torch.Tensor, t: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        """The module's output for the spec's inputs in their order.

        Raises:
            OutputError: It returns no tensor, or several and none is named.
        """
        cast = [
            value if half is None else self._rounded(value, *half)
            for value, half in zip(rest, self._halves, strict=True)
        ]
        by_place, by_name = [], {}
        for value, name in zip((x, t, *cast), self._names, strict=True):
            if name is None:
                by_place.append(value)
            else:
                by_name[name] = value
        return picked(self.module(*by_place, **by_name), self._output)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Parameter]]:
        """The module's, by the names that its owner knows."""
        return self.module.named_parameters(*args, **kwargs)

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """The module's, by the names that its owner knows."""
        return self.module.named_buffers(*args, **kwargs)

    def _rounded(self, value: torch.Tensor, dtype: torch.dtype, weight: str | None) -> torch.Tensor:
        value = value.to(dtype)
        return value if weight is None else value.to(self.module.get_parameter(weight).dtype)


def called(module: torch.nn.Module, spec: DenoiserSpec) -> torch.nn.Module:
    """The module itself where a ``ModuleCall`` is in it, else its ``ModuleCall``."""
    inside = any(isinstance(part, ModuleCall) for part in module.modules())
    return module if inside else ModuleCall(module, spec)


def _half(module: torch.nn.Module, dtype: str) -> tuple[torch.dtype, str | None] | None:
    """Of a condition in half: its dtype, and a weight that has it too."""
    half = HALVES.get(dtype)
    if half is None:
        return None
    return half, next((n for n, p in module.named_parameters() if p.dtype == half), None)


def _names(module: torch.nn.Module, inputs: list[str]) -> list[str | None]:
    """The keyword of each input, or None where it goes by position."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # no python function
        return [None for _ in inputs]
    keyword = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    kinds = {p.kind for p in parameters}
    own = {p.name for p in keyword}
    found = [name if name in own else None for name in inputs]
    if inspect.Parameter.VAR_KEYWORD in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        over = [i for i, name in enumerate(found) if name is None][len(places) :]
        found = [inputs[i] if i in over else name for i, name in enumerate(found)]
    by_place = [name for name, key in zip(inputs, found, strict=True) if key is None]
    _check_wanted(module, keyword, inputs)
    _warn_of_order(module, [p.name for p in places], by_place)
    left = [*places[len(by_place) :], *(p for p in keyword if p.name not in inputs)]
    _log_defaults(module, [p.name for p in left if p.default is not p.empty])
    return found


def _check_wanted(
    module: torch.nn.Module, keyword: Sequence[inspect.Parameter], inputs: Sequence[str]
) -> None:
    wanted = [p.name for p in keyword if p.default is p.empty and p.name not in inputs]
    if wanted:
        raise CallError(
            f"{type(module).__name__}.forward needs {', '.join(wanted)} by name, and the spec's "
            f"inputs are {', '.join(inputs)}; name an input so, or wrap the module"
        )


def _warn_of_order(module: torch.nn.Module, places: Sequence[str], by_place: Sequence[str]) -> None:
    for place, name in zip(places, by_place, strict=False):
        if name != place and name in places:
            log.warning(
                "%s.forward has a parameter %r, but inputs go by position, so the spec's %r goes "
                "to %r; if that is wrong, wrap the module or name the spec's inputs in its order",
                type(module).__name__, name, name, place,
            )  # fmt: skip


def _log_defaults(module: torch.nn.Module, names: Sequence[str]) -> None:
    """Says which inputs keep their defaults; of self-conditioning, which changes results, aloud."""
    if names:
        log.debug("%s: not fed, so at its default: %s", type(module).__name__, ", ".join(names))
    off = any(value is False for k, value in vars(module).items() if SELF_CONDITION.search(k))
    for name in names:
        if SELF_CONDITION.search(name) and not off:
            log.warning(
                "%s.forward's input %r (self-conditioning) is left at its default: samplers here "
                "don't feed the last estimate back, so a network trained with it gives other "
                "samples than where it is fed",
                type(module).__name__, name,
            )  # fmt: skip
