"""A copy of a bundle's engine: its ``load`` call, made again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.bundle.manifest import read_manifest
from revstep.engine.errors import BundleError

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

__all__ = ["LoadCall"]


@dataclasses.dataclass(frozen=True)
class LoadCall:
    """A call of ``load``, to be repeated by a copy of its engine, here or in another process.

    Attributes:
        path: The bundle, absolute.
        digest: Of its manifest, and so of all its files.
        options: The other arguments.
    """

    path: Path
    digest: str
    options: dict[str, Any]

    def __call__(self) -> Engine:
        """The engine.

        Raises:
            BundleError: The bundle isn't there, or another one is.
            BackendError, DeviceMemoryError: As ``load``, on the machine where this runs.
        """
        from revstep.engine.open.bundle import load

        found = read_manifest(self.path)["digest"]
        if found != self.digest:
            raise BundleError(
                f"{self.path} was changed since the engine was loaded of which this is a copy (its "
                f"digest is {found[:12]}..., it was {self.digest[:12]}...): load() it again, and "
                "copy or send that engine"
            )
        return load(self.path, **self.options)
