"""Progress of a long command: one count over all its stages."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (description, done, total)."""


class Stages:
    """Counts the units of a command's stages and reports them to a callback.

    Args:
        callback: Called with (description, done, total), or None.
        total: Units of the whole command.
    """

    def __init__(self, callback: Progress | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._done = 0

    def start(self, description: str) -> None:
        """Reports that a stage begins."""
        if self._callback is not None:
            self._callback(description, self._done, self._total)

    def advance(self, description: str, units: int = 1) -> None:
        """Reports that ``units`` of a stage are done."""
        self._done = min(self._done + units, self._total)
        self.start(description)
