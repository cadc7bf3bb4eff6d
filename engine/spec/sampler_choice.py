"""``SamplerChoice``: the sampler that a denoiser is drawn with where nobody names one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from revstep.engine.checks import check_identifier, check_mapping, check_one_of, got
from revstep.engine.spec.fields import fields_from

COMPAT = ("diffusers",)
OPTIONS = "{'order': 3}: numbers, texts, None, or tuples of such"


class Options(Mapping[str, Any]):
    """A sampler's options, which can't change; equal, and of one hash, where all of them are."""

    __slots__ = ("_items",)

    def __init__(self, options: Mapping[str, Any]) -> None:
        check_mapping(options, "a sampler's options", OPTIONS)
        self._items = tuple(sorted((name, _frozen(value)) for name, value in options.items()))

    def __getitem__(self, name: str) -> Any:
        return dict(self._items)[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self._items) == dict(other)

    def __repr__(self) -> str:
        return repr(dict(self._items))

    def __reduce__(self) -> tuple[Any, ...]:
        return Options, (dict(self._items),)


def _frozen(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    raise TypeError(f"a sampler's options must be {OPTIONS}; got {got(value)}")


@dataclasses.dataclass(frozen=True, slots=True)
class SamplerChoice:
    """What ``engine.sample(sampler=None)`` runs, such as a checkpoint's own scheduler.

    Attributes:
        name: A name of ``revstep.samplers.SAMPLERS``.
        options: The sampler's options that are not its defaults.
        compat: As in ``Engine.sample``.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    compat: str | None = None

    def __post_init__(self) -> None:
        check_identifier(self.name, "a sampler choice's name")
        object.__setattr__(self, "options", Options(self.options))
        if self.compat is not None:
            check_one_of(self.compat, "compat", COMPAT, " or None")

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain JSON values."""
        return {"name": self.name, "options": dict(self.options), "compat": self.compat}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SamplerChoice:
        """The choice that ``to_dict`` wrote."""
        return cls(**fields_from(cls, values, "the sampler choice"))
