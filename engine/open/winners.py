"""What ``revstep compile --target cpu`` chose, opened where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from revstep.engine.backends.chosen import Chosen, ChosenDenoiser
from revstep.engine.backends.part import PartGraph
from revstep.engine.backends.protocol import Denoiser
from revstep.engine.backends.registry import BACKENDS, Backend, Wanted, WantedPart
from revstep.engine.bundle.entry import CPU, CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError
from revstep.engine.log import log
from revstep.engine.system.cores import usable_threads
from revstep.engine.system.machine import processor

Found = TypeVar("Found")


def winners(bundle: Bundle, precision: str | None) -> list[CompiledEntry]:
    """The choices for a precision; None: for each number of rows the fastest that was kept.

    bf16 was kept where it was asked for. What was measured on this processor goes first.
    """
    kept = [e for e in bundle.compiled if e.target == CPU and precision in (None, e.precision)]
    found: dict[int, CompiledEntry] = {}
    for entry in sorted(kept, key=_rank):
        found.setdefault(entry.batch[1], entry)
    return [found[rows] for rows in sorted(found)]


def _rank(entry: CompiledEntry) -> tuple[bool, float, bool]:
    choice = entry.choice
    assert choice is not None
    return choice.processor != processor(), choice.seconds, entry.precision == "fp32"


def open_winners(
    bundle: Bundle, precision: str | None, threads: int | None = None
) -> ChosenDenoiser | None:
    """The choices that hold on this machine; None: there are none. A warning names the others.

    Args:
        bundle: The bundle.
        precision: As for ``winners``.
        threads: In place of those that were chosen.
    """
    opened: dict[tuple[object, ...], Denoiser] = {}
    chosen: dict[int, Chosen] = {}
    reasons: list[str] = []
    entries = winners(bundle, precision)
    for entry in entries:
        try:
            denoiser = _opened(bundle, entry, threads, opened)
        except BackendError as error:
            reasons.append(str(error))
        else:
            chosen[entry.batch[1]] = Chosen(denoiser, _details(entry))
    if reasons:
        log.warning(
            "%s: %s was chosen for this network on a CPU is passed over: %s. Choose here with: %s",
            bundle.path, "some of what" if chosen else "what", "; ".join(dict.fromkeys(reasons)),
            command(bundle, entries),
        )  # fmt: skip
    return ChosenDenoiser(chosen) if chosen else None


def command(bundle: Bundle, entries: Sequence[CompiledEntry]) -> str:
    """The command that makes these choices on this machine."""
    rows = ",".join(str(n) for n in sorted({e.batch[1] for e in entries if e.part is None}))
    half = " --precision auto" if any(e.precision != "fp32" for e in entries) else ""
    return f"revstep compile {bundle.path} --target {CPU}{rows and f' --batch {rows}'}{half}"


def _opened(
    bundle: Bundle,
    entry: CompiledEntry,
    threads: int | None,
    opened: dict[tuple[object, ...], Denoiser],
) -> Denoiser:
    """The network of a choice; the same form is opened once.

    Raises:
        BackendError: The choice was made elsewhere, or can't run here.
    """
    backend, threads = _backend(entry, threads)
    on_cpu = _here(entry, backend.on_cpu)
    form = (entry.runtime, entry.precision, entry.file, threads)
    if form not in opened:
        graph = None if entry.file is None else bundle.path / entry.file
        opened[form] = on_cpu(Wanted(bundle, entry.precision, threads=threads, graph=graph))
    _check_version(entry, backend, opened[form].describe())
    return opened[form]


def part_winner(bundle: Bundle, key: str, precision: str | None) -> CompiledEntry | None:
    """What was chosen for a network beside the denoiser; None: nothing.

    That is the fastest; of a precision that is asked for fp32 will do too.
    """
    kept = [
        e for e in bundle.compiled_parts
        if e.target == CPU and e.part == key and precision in (None, e.precision, "bf16")
    ]  # fmt: skip
    return min(kept, key=_rank, default=None)


def open_part_winner(entry: CompiledEntry, wanted: WantedPart) -> PartGraph:
    """The network of such a choice.

    Raises:
        BackendError: The choice was made elsewhere, or can't run here; it names the command.
    """
    bundle = wanted.bundle
    try:
        backend, threads = _backend(entry, wanted.threads)
        on_cpu = _here(entry, backend.part_on_cpu)
        part = on_cpu(wanted._replace(precision=entry.precision, threads=threads))
        _check_version(entry, backend, part.describe())
    except BackendError as error:
        denoisers = [e for e in bundle.compiled if e.target == CPU]
        raise BackendError(
            f"what was chosen for it on a CPU is passed over: {error}. Choose here with: "
            f"{command(bundle, [*denoisers, entry])}"
        ) from error
    return part


def _backend(entry: CompiledEntry, threads: int | None) -> tuple[Backend, int]:
    """What runs a choice, and with how many threads.

    Raises:
        BackendError: The choice was made elsewhere, or by what isn't here.
    """
    choice = entry.choice
    assert choice is not None
    if choice.processor != processor():
        raise BackendError(f"it was measured on {choice.processor}, and this is {processor()}")
    if threads is None and choice.threads > usable_threads():
        raise BackendError(
            f"it takes {choice.threads} threads, and this process may use {usable_threads()}"
        )
    return _here(entry, BACKENDS.get(entry.runtime)), threads or choice.threads


def _here(entry: CompiledEntry, found: Found | None) -> Found:
    """What a choice's runtime is opened by.

    Raises:
        BackendError: There is none.
    """
    if found is None:
        raise BackendError(f"this revstep runs no {entry.runtime!r} on a CPU")
    return found


def _check_version(entry: CompiledEntry, backend: Backend, described: dict[str, Any]) -> None:
    if described["version"] != entry.version:
        raise BackendError(
            f"it was measured with {backend.title} {entry.version}, and this is "
            f"{described['version']}"
        )


def _details(entry: CompiledEntry) -> dict[str, object]:
    choice = entry.choice
    assert choice is not None
    return {
        "precision": entry.precision,
        "rewrites": list(choice.rewrites),
        "measured_ms": choice.seconds * 1e3,
    }
