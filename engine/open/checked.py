"""Whether compile has checked what is loaded against PyTorch, and the warning where it has not."""

from __future__ import annotations

import logging

from revstep.engine.backends.registry import BACKENDS
from revstep.engine.bundle.entry import CPU
from revstep.engine.bundle.reader import Bundle

log = logging.getLogger("revstep")


def warn_unless_checked(bundle: Bundle, backend: str, precision: str) -> bool:
    """Whether compile has checked this backend and precision against PyTorch."""
    target = BACKENDS[backend].target or backend
    entries = [
        e
        for e in bundle.compiled
        if e.precision == precision
        and (e.target == backend or (e.target == CPU and e.runtime == backend and e.file is None))
    ]
    if any(isinstance(entry.parity, dict) for entry in entries):
        return True
    command = f"revstep compile {bundle.path} --target {target} --precision {precision}"
    log.warning(
        "%s (%s) has not been checked against PyTorch on %s; run: %s",
        bundle.path, precision, BACKENDS[backend].title,
        entries[0].command(bundle.path) if entries else command,
    )  # fmt: skip
    return False
