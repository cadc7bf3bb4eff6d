"""Whether compile has checked what is loaded, and the warning where it has not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from revstep.engine.backends.registry import BACKENDS
from revstep.engine.bundle.choice import MEASURED
from revstep.engine.bundle.entry import CPU, CompiledEntry
from revstep.engine.bundle.layout import part_precision
from revstep.engine.bundle.reader import Bundle
from revstep.engine.log import log


class PartRun(NamedTuple):
    """What runs a network beside the denoiser.

    Attributes:
        key: The network's, as ``part_keys`` gives it.
        what: Its name in a sentence.
        backend: The backend's name.
        precision: Of its products.
    """

    key: str
    what: str
    backend: str
    precision: str


def warn_unless_checked(bundle: Bundle, backend: str, precision: str) -> bool:
    """Whether compile has checked this backend and precision against its reference."""
    target = BACKENDS[backend].target or backend
    entries = [
        e
        for e in bundle.compiled
        if e.precision == precision
        and (e.target == backend or (e.target == CPU and e.runtime == backend and e.file is None))
    ]
    tried = _tried(bundle.compiled, backend, precision)
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


def warn_unless_part_checked(bundle: Bundle, part: PartRun, used: str, precision: str) -> bool:
    """Whether compile has checked a network beside a denoiser that it has checked.

    Args:
        bundle: The bundle.
        part: What runs it.
        used: The denoiser's backend, whose compile checks both.
        precision: The denoiser's.
    """
    own = [e for e in bundle.compiled_parts if e.part == part.key]
    ran: list[tuple[str, str, Any]] = [(e.runtime, e.precision, e.parity) for e in own]
    for e in bundle.compiled:  # whose compile checks what is loaded beside them
        figure = e.parity.get(part.key) if isinstance(e.parity, dict) else None
        ran.append((e.runtime, part_precision(part.key, e.precision), figure))
    runs_here = (part.backend, part.precision)
    figures = [f for *how, f in ran if tuple(how) == runs_here and isinstance(f, dict)]
    if any(figures) or _tried(own, part.backend, part.precision):
        return True
    target = CPU if used == CPU else BACKENDS[used].target or used
    log.warning(
        "%s: the %s (%s) has not been checked against its reference on %s; run: "
        "revstep compile %s --target %s --precision %s",
        bundle.path, part.what, part.precision, BACKENDS[part.backend].title,
        bundle.path, target, precision,
    )  # fmt: skip
    return False


def _tried(entries: Sequence[CompiledEntry], backend: str, precision: str) -> list[dict[str, Any]]:
    """What choices for a CPU were measured against, of this backend on the graph as exported."""
    return [
        c
        for choice in (e.choice for e in entries if e.choice is not None)
        for c in choice.candidates
        if (c.get("runtime"), c.get("precision")) == (backend, precision)
        and not c.get("rewrites")
        and c.get("status") in MEASURED
        and c.get("parity")
    ]
