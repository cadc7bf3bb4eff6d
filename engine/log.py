"""The package's logger: ``logging`` is imported when there is something to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    log: logging.Logger


class _Log:
    """Stands for ``logging.getLogger("revstep")``."""

    def __getattr__(self, name: str) -> Any:
        import logging

        return getattr(logging.getLogger("revstep"), name)


if not TYPE_CHECKING:
    log = _Log()
