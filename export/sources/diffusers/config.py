"""A diffusers model's config: its file, and its values over the class's own defaults."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from revstep.engine.errors import ExportError


def read_config(path: Path) -> dict[str, Any]:
    """A diffusers config file.

    Raises:
        ExportError: It is missing or no JSON object.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ExportError(
            f"{path} is missing; a diffusers folder has unet/config.json (or transformer/) and "
            "scheduler/scheduler_config.json (or both files in the folder itself)"
        ) from None
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ExportError(f"{path} holds {type(values).__name__}, expected a JSON object")
    return values


def values_of(
    where: Path, config: Mapping[str, Any], name: str, legacy: str | None = None
) -> dict[str, Any]:
    """The config over the defaults of the class of that name.

    Args:
        where: The config's file, for errors.
        config: What it holds.
        name: The class that is loaded.
        legacy: The class that wrote it, where that is another: its own further fields are ignored
            at its defaults.

    Raises:
        ExportError: A field that this class doesn't know, as it would be ignored.
    """
    import diffusers

    parameters = _parameters(name)
    fields = {key: value for key, value in config.items() if not key.startswith("_")}
    if legacy is not None:
        old = _parameters(legacy)
        fields = {
            key: value
            for key, value in fields.items()
            if key in parameters or key not in old or value not in (old[key].default, None)
        }
    if unknown := sorted(set(fields) - set(parameters)):
        raise ExportError(
            f"{where} has the field {', '.join(map(repr, unknown))}, which this diffusers "
            f"({diffusers.__version__}) does not know: it would be ignored. Remove it, or install "
            "the diffusers that wrote it"
        )
    return {key: p.default for key, p in parameters.items()} | fields


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    import diffusers

    parameters = dict(inspect.signature(getattr(diffusers, name).__init__).parameters)
    del parameters["self"]
    return parameters
