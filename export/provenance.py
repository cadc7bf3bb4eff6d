"""Where a bundle comes from: tools, their versions, and the source of the weights."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from typing import Any

TOOLS: tuple[str, ...] = ("torch", "onnx", "onnxscript", "numpy")
MORE = {"diffusers": ("diffusers", "safetensors"), "onnx": ("onnx-ir", "onnxruntime")}


def revstep_version() -> str:
    """The installed version, or ``unknown`` in a bare checkout."""
    return _version("revstep") or "unknown"


def provenance(parameters: int, *, opset: int, source: dict[str, str] | None) -> dict[str, Any]:
    """The manifest's provenance: tool versions, opset, parameters, source and UTC time."""
    tools = TOOLS
    if source is not None:
        tools = (*TOOLS, *MORE.get(source.get("kind", ""), ()))
    return {
        "tools": {
            "python": platform.python_version(),
            **{name: version for name in tools if (version := _version(name)) is not None},
        },
        "opset": opset,
        "parameters": parameters,
        "source": source,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
