"""Whether compile has checked what is loaded, and the warning where it has not."""

from __future__ import annotations

from typing import Any

from revstep.engine.backends.registry import BACKENDS
from revstep.engine.bundle.choice import MEASURED
from revstep.engine.bundle.entry import CPU
from revstep.engine.bundle.reader import Bundle
from revstep.engine.log import log


def warn_unless_checked(bundle: Bundle, backend: str, precision: str) -> bool:
    """Whether compile has checked this backend and precision against its reference."""
    target = BACKENDS[backend].target or backend
    entries = [
        e
        for e in bundle.compiled
        if e.precision == precision
        and (e.target == backend or (e.target == CPU and e.runtime == backend and e.file is None))
    ]
    tried = _tried(bundle, backend, precision)
    whole = any("ddim20" in candidate["parity"] for candidate in tried)
    if whole or any(isinstance(entry.parity, dict) for entry in entries):
        return True
    if tried:
        log.warning(
            "%s (%s) was checked against its reference on %s for one forward pass alone: revstep "
            "compile measured it, and it is far slower here than another way",
            bundle.path, precision, BACKENDS[backend].title,
        )  # fmt: skip
        return False
    command = f"revstep compile {bundle.path} --target {target} --precision {precision}"
    log.warning(
        "%s (%s) has not been checked against its reference on %s; run: %s",
        bundle.path, precision, BACKENDS[backend].title,
        entries[0].command(bundle.path) if entries else command,
    )  # fmt: skip
    return False


def _tried(bundle: Bundle, backend: str, precision: str) -> list[dict[str, Any]]:
    """What a choice for a CPU was measured against, of this backend on the graph as exported."""
    choices = [e.choice for e in bundle.compiled if e.choice is not None]
    return [
        c
        for choice in choices
        for c in choice.candidates
        if (c.get("runtime"), c.get("precision")) == (backend, precision)
        and not c.get("rewrites")
        and c.get("status") in MEASURED
        and c.get("parity")
    ]
