"""Which of a file's inputs and outputs are revstep's, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from revstep.engine.checks import check_bool, check_mapping, check_number, check_type
from revstep.engine.errors import ArgumentError
from revstep.engine.nearest import unknown_names

STATE, TIME, SECOND = "state", "time", "second_time"
TIMES = (TIME, SECOND)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InputName:
    """An input of a file, and how it takes what revstep feeds.

    Attributes:
        name: Its name in the file.
        scale: Of a time: the file is fed ``scale * time + shift``. A network whose time is 1 at
            the data takes ``scale=-1, shift=1``; one that is fed ln(sigma) takes ``log_sigma``
            with ``scale=4``.
        shift: As above.
        channels_last: Of the state: the file has its first axis last, (B, H, W, C) for (C, H, W),
            in its output too.
    """

    name: str
    scale: float = 1.0
    shift: float = 0.0
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_type(self.name, "an input's name", str, "a text")
        for field in ("scale", "shift"):
            check_number(getattr(self, field), f"the input {self.name!r}'s {field}", finite=True)
        check_bool(self.channels_last, f"the input {self.name!r}'s channels_last")
        if self.scale == 0.0:
            raise ValueError(f"the input {self.name!r}'s scale is 0: it would be fed one value")

    @property
    def plain(self) -> bool:
        """Whether it is only a name."""
        return self == InputName(name=self.name)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutputName:
    """The output of a file that is the prediction.

    Attributes:
        name: Its name in the file; None: the one that there is.
        scale: What it is multiplied by: -1 where a flow's velocity leads to the data.
    """

    name: str | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.name is not None:
            check_type(self.name, "the output's name", str, "a text")
        check_number(self.scale, "the output's scale", finite=True)
        if self.scale == 0.0:
            raise ValueError("the output's scale is 0: nothing would be left of it")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a file calls revstep's inputs and output.

    Attributes:
        inputs: ``state``, ``time``, ``second_time``, or a condition's name -> the file's input. Who
            isn't in it has the same name in the file.
        constants: Inputs of the file that always have one value: a flag, a guidance strength.
        output: The output.
    """

    inputs: Mapping[str, InputName] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    output: OutputName = dataclasses.field(default_factory=OutputName)

    @classmethod
    def read(cls, inputs: object, constants: object, output: object) -> Names:
        """The names from plain values: of a TOML file, or a caller's.

        Raises:
            ValueError: An unknown field, or a value out of range.
            TypeError: A value of another type.
        """
        given = check_mapping(inputs or {}, "inputs", "{'state': 'noisy', 'time': 'sigma'}")
        fixed = check_mapping(constants or {}, "constants", "{'train': False}")
        found = {
            ours: _part(InputName, value, f"the input {ours!r}") for ours, value in given.items()
        }
        for ours, one in found.items():
            _check_use(ours, one)
        return cls(inputs=found, constants=fixed, output=_part(OutputName, output, "the output"))

    def of(self, ours: str, default: str) -> InputName:
        """The file's input that is ``ours``; of the name ``default`` where nothing is said."""
        return self.inputs.get(ours) or InputName(name=default)

    def to_dict(self) -> dict[str, Any]:
        """The names as plain values, without defaults; ``read`` takes its fields."""
        inputs = {
            ours: one.name if one.plain else _changed(one) for ours, one in self.inputs.items()
        }
        parts = {
            "inputs": inputs,
            "constants": dict(self.constants),
            "output": _changed(self.output),
        }
        return {name: value for name, value in parts.items() if value}


def _part(kind: type[T], value: object, what: str) -> T:
    """One of the classes above from a name alone, or a mapping of its fields."""
    if value is None:
        return kind()
    if isinstance(value, kind):
        return value
    given = {"name": value} if isinstance(value, str) else value
    fields = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values = check_mapping(given, what, "{'name': 'x'}, or its name alone")
    if others := set(values) - set(fields):
        raise ArgumentError(unknown_names(f"unknown field of {what}:", others, fields))
    if kind is InputName and "name" not in values:
        raise ArgumentError(f"{what} lacks its name in the file: name = 'x'")
    return kind(**values)


def _check_use(ours: str, one: InputName) -> None:
    if ours not in TIMES and (one.scale, one.shift) != (1.0, 0.0):
        raise ArgumentError(f"scale and shift are the times' alone; {ours!r} has them too")
    if ours != STATE and one.channels_last:
        raise ArgumentError(f"channels_last is the state's alone; {ours!r} has it too")


def _changed(one: InputName | OutputName) -> dict[str, Any]:
    values = dataclasses.asdict(one)
    defaults = {f.name: f.default for f in dataclasses.fields(one)}
    return {k: v for k, v in values.items() if v != defaults[k]}
