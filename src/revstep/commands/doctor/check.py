"""One finding of ``revstep doctor``, and text that several share."""

from __future__ import annotations

from dataclasses import dataclass

NO_GPU = "no NVIDIA GPU or driver was found"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that revstep can use.

    Attributes:
        name: What it is.
        status: ``ok``; ``builds``: it prepares bundles here, and runs on another machine;
            ``missing`` (to be installed); ``unusable`` (not on this machine); or ``conflict``.
        detail: What was found, and what it means.
        fix: The command or step that fixes it, or None.
    """

    name: str
    status: str
    detail: str
    fix: str | None = None


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'revstep[{extra}]'"
