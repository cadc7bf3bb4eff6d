"""A spec in TOML: the fields of ``DenoiserSpec``, and what the file calls its inputs."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from revstep.engine.errors import ExportError
from revstep.engine.json_types import check_object
from revstep.engine.nearest import unknown, unknown_names
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.fields import keyed
from revstep.engine.spec.grids import KINDS as GRIDS
from revstep.engine.spec.grids import grid_class
from revstep.engine.spec.prediction import PREDICTIONS
from revstep.engine.spec.schedule import KINDS as SCHEDULES
from revstep.engine.spec.schedule import schedule_class
from revstep.export.sources.onnx_file.names import Names

NAMES = tuple(f.name for f in dataclasses.fields(Names))
REFUSED = {
    "decoder": "decodes",
    "encoders": "encodes",
    "picture_encoder": "encodes pictures",
}
CHOICES = {
    "prediction": f"what the network predicts: {', '.join(PREDICTIONS)}",
    "schedule": f"the noise schedule it was trained with: kind = {', '.join(SCHEDULES)}",
    "shape": "the shape of one sample without the batch, as [3, 64, 64]",
}

Values = dict[str, Any]


def read_toml(path: str | Path) -> Values:
    """The values of a spec file; arrays that it names (``{file = "null.npy"}``) are read.

    Raises:
        ExportError: It is missing, no TOML, or names an array that can't be read.
    """
    path = Path(path).expanduser()
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ExportError(
            f"{path} does not exist; revstep inspect model.onnx --write {path} makes one to start "
            "from"
        ) from None
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} can't be read as TOML: {error}") from error
    conditions = values.get("conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        for name in ("null", "example"):
            if isinstance(condition, dict) and isinstance(condition.get(name), dict):
                condition[name] = _array(path, condition, name)
    return values


def split(values: Mapping[str, Any]) -> tuple[Values, Names]:
    """The spec's own fields, and the names.

    Raises:
        ValueError: An unknown field, or a part that no ONNX file of a denoiser has.
        TypeError: A value of another type.
    """
    known = [f.name for f in dataclasses.fields(DenoiserSpec)]
    allowed = [name for name in (*known, *NAMES) if name not in REFUSED]
    refuse_parts(values)
    if others := set(values) - set(known) - set(NAMES):
        raise ValueError(unknown_names("unknown field of the spec:", others, allowed))
    own = {name: value for name, value in values.items() if name in allowed and name not in NAMES}
    return own, Names.read(*(values.get(name) for name in NAMES))


def refuse_parts(values: Mapping[str, Any]) -> None:
    """Refuses a spec's parts that no ONNX file of a denoiser has.

    Raises:
        ValueError: It has one.
    """
    for name, does in REFUSED.items():
        if values.get(name):
            raise ValueError(
                f"the spec has {name}, and one file of a denoiser holds nothing that {does}: leave "
                "it out, or export from Python or a diffusers folder"
            )


def spec_of(values: Mapping[str, Any]) -> DenoiserSpec:
    """The spec of fields as TOML has them; those that are left out have their defaults.

    Raises:
        ValueError: An unknown or missing field, or a value that is not allowed.
        TypeError: A value of another type than the field's.
    """
    fields = _complete(DenoiserSpec, values, "the spec")
    check_object(fields, typing.get_type_hints(DenoiserSpec), "the spec")  # by names, not by keys
    return DenoiserSpec.from_dict(keyed(fields))


def _complete(kind: type, values: object, what: str) -> Values:
    """All fields of a part: those given, and the others' defaults, as JSON has them."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{what} must be a table of its fields; got {values!r:.60}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if others := set(values) - set(fields):
        raise ValueError(unknown_names(f"unknown field of {what}:", others, fields))
    hints = typing.get_type_hints(kind)
    found: Values = {}
    for name, field in fields.items():
        if name in values:
            found[name] = _part(name, hints[name], values[name], what)
        elif field.default is not dataclasses.MISSING:
            found[name] = _plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[name] = _plain(field.default_factory())
        else:
            more = f", {CHOICES[name]}" if name in CHOICES else ""
            raise ValueError(f"{what} lacks {name!r}{more}")
    return found


def _part(name: str, hint: Any, value: object, what: str) -> object:
    """The value of a field, with what a part of it leaves out."""
    if name == "schedule":
        return _kind(value, SCHEDULES, schedule_class, "the schedule", "schedule")
    if name in ("grid", "ends") and isinstance(value, Mapping):
        return _kind(value, GRIDS, grid_class, "the grid", "kind of grid")
    if name == "sampler" and isinstance(value, str):
        value = {"name": value}
    kinds = [k for k in _kinds(hint) if dataclasses.is_dataclass(k)]
    if kinds and isinstance(value, Mapping):
        return _complete(typing.cast(type, kinds[0]), value, f"{what}'s {name}")
    if kinds and isinstance(value, list | tuple):
        part = typing.cast(type, kinds[0])
        return [_complete(part, v, f"{what}'s {name}[{i}]") for i, v in enumerate(value)]
    return value


def _kind(
    value: object, kinds: Iterable[str], class_of: Callable[[str], type], what: str, word: str
) -> Values:
    """A part of one of several kinds."""
    if not isinstance(value, Mapping) or "kind" not in value:
        raise TypeError(
            f"{what} is a table with its kind, of {', '.join(kinds)}; got {value!r:.60}"
        )
    kind = value["kind"]
    if kind not in kinds:
        raise ValueError(unknown(word, kind, kinds))
    own = {k: v for k, v in value.items() if k != "kind"}
    return {"kind": kind, **keyed(_complete(class_of(kind), own, f"{what} {kind!r}"))}


def _kinds(hint: Any) -> list[Any]:
    """The types that an annotation is made of."""
    inner = [one for one in typing.get_args(hint) if one is not Ellipsis]
    return [found for one in inner for found in _kinds(one)] if inner else [hint]


def _plain(value: object) -> object:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


def _array(path: Path, condition: Values, name: str) -> object:
    """The numbers of a ``.npy`` file that a spec names, beside it."""
    what = f"{path}: the condition {condition.get('name')!r}'s {name}"
    value = condition[name]
    if set(value) != {"file"} or not isinstance(value["file"], str):
        raise ExportError(f'{what} is a number, a list, or {{file = "{name}.npy"}}; got {value}')
    file = path.parent / value["file"]
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ExportError(f"{what}: {file} is no .npy file of numbers: {error}") from error
    return array.tolist() if isinstance(array, np.ndarray) else None
