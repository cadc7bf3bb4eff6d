"""What an engine says of itself, as a row keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def without_place(described: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Engine.describe`` gave, its bundle by name: where it lay says nothing."""
    found = dict(described)
    if "bundle" in found:
        found["bundle"] = Path(found["bundle"]).name
    return found
