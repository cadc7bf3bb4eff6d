"""How a deployed model runs: parameters of its config.pbtxt, which may be edited there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from revstep.engine.backends.registry import NAMES
from revstep.engine.checks import check_bool, check_one_of, check_whole
from revstep.engine.errors import ArgumentError
from revstep.engine.nearest import unknown

PREFIX = "revstep."  # other parameters are the Python backend's own
TRUTH = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an instance of the model opens its bundle, and what it takes.

    Attributes:
        bundle: The bundle: absolute, or relative to the folder of the model's version.
        backend: As for ``load``.
        precision: As for ``load``.
        threads: As for ``load``.
        slots: As for ``Service``.
        max_queue: As for ``Service``.
        max_samples: Most samples of a request.
        max_steps: Most steps of a request; None: the schedule's training steps.
        deterministic: As for ``Service``.

    Raises:
        ArgumentTypeError, ArgumentError: A setting of a wrong type, or out of range.
    """

    bundle: str = "bundle.revstep"
    backend: str = "auto"
    precision: str | None = None
    threads: int | None = None
    slots: int | None = None
    max_queue: int = 256
    max_samples: int = 256
    max_steps: int | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_one_of(self.backend, "backend", NAMES)
        for name in ("max_queue", "max_samples"):
            check_whole(getattr(self, name), name, 1)
        for name in ("threads", "slots", "max_steps"):
            if getattr(self, name) is not None:
                check_whole(getattr(self, name), name, 1)
        check_bool(self.deterministic, "deterministic")

    def parameters(self) -> list[dict[str, Any]]:
        """The settings as parameters of a config.pbtxt, without those that are None."""
        return [
            {"key": PREFIX + name, "value": {"string_value": _text(value)}}
            for name, value in dataclasses.asdict(self).items()
            if value is not None
        ]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """The settings of a model's configuration, as Triton hands it to the model.

        Raises:
            ArgumentError: An unknown parameter of ours, or a value that is not allowed.
        """
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in config.get("parameters", {}).items():
            if not key.startswith(PREFIX):
                continue
            name = key.removeprefix(PREFIX)
            if name not in known:
                raise ArgumentError(unknown("parameter", key, [PREFIX + n for n in known]), name)
            values[name] = _value(name, known[name], value["string_value"])
        return cls(**values)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(name: str, kind: str, text: str) -> object:
    if kind.startswith("int"):
        try:
            return int(text)
        except ValueError:
            raise ArgumentError(
                f"parameter {PREFIX}{name} must be a whole number; got {text!r}", name
            ) from None
    if kind == "bool":
        if text.lower() not in TRUTH:
            raise ArgumentError(
                f"parameter {PREFIX}{name} must be true or false; got {text!r}", name
            )
        return TRUTH[text.lower()]
    return text
