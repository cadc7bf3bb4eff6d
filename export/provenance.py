"""Where a bundle comes from: tools, their versions, and the source of the weights."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


TOOLS: tuple[str, ...] = ("torch", "onnx", "onnxscript", "numpy")


def revstep_version() -> str:
    """The installed version, or ``unknown`` in a bare checkout."""
    return _version("revstep") or "unknown"


def provenance(
    module: torch.nn.Module, *, opset: int, source: dict[str, str] | None
) -> dict[str, Any]:
    """The manifest's provenance: tool versions, opset, parameters, source and UTC time."""
    tools = TOOLS
    if source is not None and source.get("kind") == "diffusers":
        tools = (*TOOLS, "diffusers", "safetensors")
    return {
        "tools": {
            "python": platform.python_version(),
            **{name: version for name in tools if (version := _version(name)) is not None},
        },
        "opset": opset,
        "parameters": sum(p.numel() for p in module.parameters()),
        "source": source,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
