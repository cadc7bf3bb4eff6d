"""Compiled models in the user's cache, each under all that it depends on."""

from __future__ import annotations

import hashlib
from typing import Any

from revstep.engine.backends.ov import library
from revstep.engine.system.machine import processor
from revstep.engine.system.user_cache import read_cache, trim_cache, write_cache

KIND = "openvino"
MAX_BYTES = 1 << 30  # of all; those that were used last stay
FORMAT = "1"  # of the key and what is kept; another is another key


class Blobs:
    """What OpenVINO exports of one graph's compiled models, and imports again.

    Args:
        key: All that they depend on besides OpenVINO's build and the processor.
    """

    def __init__(self, key: tuple[str, ...]) -> None:
        build = str(library.openvino().__version__)
        self._key = "\n".join((FORMAT, build, processor(), *key))

    def read(self, part: str, options: dict[str, Any]) -> Any | None:
        """The compiled model, or None: there is none, or it is damaged.

        OpenVINO reads what it is given without doubt, so the bytes must be those that were kept
        here, under this key.
        """
        key = f"{self._key}\n{part}"
        data = read_cache(KIND, key)
        size = hashlib.sha256().digest_size
        if data is None or data[:size] != _seal(key, data[size:]):
            return None
        try:
            return library.core().import_model(data[size:], library.DEVICE, options)
        except RuntimeError:
            return None

    def write(self, part: str, compiled: Any) -> None:
        """Keeps a compiled model, where that can be written and is not too large."""
        data: bytes = compiled.export_model().getvalue()
        if len(data) > MAX_BYTES:
            return
        key = f"{self._key}\n{part}"
        write_cache(KIND, key, _seal(key, data) + data)
        trim_cache(KIND, MAX_BYTES)


def _seal(key: str, data: bytes) -> bytes:
    made = hashlib.sha256(key.encode())
    made.update(data)
    return made.digest()
