"""One compiled form of a bundle's network, as the manifest lists it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from revstep.engine.bundle.choice import CpuChoice, cpu_choice
from revstep.engine.bundle.layout import ROWS_OF_PARTS, bad_manifest, part_precision
from revstep.engine.nearest import unknown
from revstep.engine.spec.fields import fields_from
from revstep.engine.spec.precisions import PRECISIONS

CPU = "cpu"  # the target whose entries carry a choice


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompiledEntry:
    """One compiled form of a bundle's network, checked against the reference.

    Attributes:
        key: Hash of the graph's sha256, runtime, version, device, precision, batch and options.
        target: What ``revstep compile --target`` named.
        precision: The graph it was made from.
        runtime: The library that runs it.
        version: That library's version.
        device: The device it was made for: ``cpu``, a GPU's name and compute capability
            (``NVIDIA L4 (sm_89)``), or compute capabilities alone (``sm_86,sm_89``).
        batch: (min, max) rows per call; of a CPU's choice those that it was measured for.
        tuned: The rows that it was tuned for, or None where the runtime has no such thing.
        file: Path in the bundle: a plan or a rewritten graph; None where the runtime runs the
            bundle's own graph.
        parity: Error and bound of each check, or the text ``not checked on this machine``.
        choice: Of target ``cpu``: how it runs, and what it was measured against.
        part: Of a network beside the denoiser, its key: ``encoder.<name>``, ``picture_encoder``,
            ``decoder``; None: the denoiser's.
    """

    key: str
    target: str
    precision: str
    runtime: str
    version: str
    device: str
    batch: tuple[int, int]
    file: str | None
    parity: dict[str, Any] | str
    tuned: int | None = None
    choice: CpuChoice | None = None
    part: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain JSON values."""
        values = {**dataclasses.asdict(self), "batch": list(self.batch)}
        values["choice"] = None if self.choice is None else self.choice.to_dict()
        only_some = ("choice", "part")  # entries of a CPU, and of networks beside the denoiser
        return {k: v for k, v in values.items() if v is not None or k not in only_some}

    def command(self, path: Path) -> str:
        """The command that makes this entry anew in the bundle at ``path``."""
        text = f"revstep compile {path} --target {self.target} --precision {self.precision}"
        if self.choice is not None:
            return text if self.part else f"{text} --batch {self.batch[1]}"
        if self.tuned is None:
            return text
        low, high = self.batch
        rows = f"--batch {high}" if low == high else f"--dynamic {low}:{self.tuned}:{high}"
        gpu = "" if " " in self.device else f" --gpu {self.device}"
        return f"{text} {rows}{gpu}"


def maker(entry: CompiledEntry, others: Iterable[CompiledEntry]) -> CompiledEntry:
    """The entry whose command makes ``entry`` anew and nothing that isn't there.

    Of a plan beside the denoiser's that is the denoiser's with which it was compiled; itself where
    there is none.
    """
    if entry.part is None or entry.choice is not None:
        return entry
    for other in others:
        same = (other.target, other.device) == (entry.target, entry.device)
        precision = part_precision(entry.part, other.precision)
        rows = min(other.batch[1], ROWS_OF_PARTS) == entry.batch[1]
        if other.part is None and same and rows and precision == entry.precision:
            return other
    return entry


def compiled_entry(path: Path, value: object, files: dict[str, Any]) -> CompiledEntry:
    """The entry that a manifest's ``value`` describes, for a bundle with these ``files``.

    Raises:
        BundleError: It is none, or its file is not among them.
    """
    what = "an entry of 'engines'"
    try:
        fields = fields_from(CompiledEntry, value, what)
        given = fields.get("choice")
        choice = None if given is None else cpu_choice(given, f"{what}'s choice")
    except (TypeError, ValueError) as error:
        raise bad_manifest(path, str(error)) from error
    entry = CompiledEntry(**{**fields, "batch": tuple(fields["batch"]), "choice": choice})
    low, high = entry.batch
    if not 1 <= low <= high:
        raise bad_manifest(path, f"{what} has batch {low} to {high}; it rises from at least 1")
    if entry.tuned is not None and not low <= entry.tuned <= high:
        raise bad_manifest(path, f"{what} has tuned {entry.tuned}; it lies in {low} to {high}")
    if entry.precision not in PRECISIONS:
        raise bad_manifest(path, f"{what}: {unknown('precision', entry.precision, PRECISIONS)}")
    if (entry.target == CPU) != (choice is not None):
        found = "no choice" if choice is None else "a choice"
        raise bad_manifest(path, f"{what} has the target {entry.target!r} and {found}")
    if entry.file is not None and entry.file not in files:
        raise bad_manifest(path, f"{what} has the file {entry.file!r}, which is not in 'files'")
    return entry
