"""What a target is: a name, the arguments that it takes, and the function that compiles for it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.kernels import KernelFiles
from revstep.engine.bundle.reader import Bundle
from revstep.engine.spec.precisions import PRECISIONS
from revstep.export.parity.bounds import Bounds
from revstep.export.progress import Progress
from revstep.export.targets.options import BuildOptions, Profile

Made = CompiledEntry | tuple[CompiledEntry, ...] | KernelFiles
"""What a compile returns: an entry, several of one target, or the files of kernels."""

PLAIN = BuildOptions()
COMMON = ("path", "progress", "cancelled", "most_rows")  # what every target takes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompileArguments:
    """What is compiled, and how; ``compile_bundle`` documents each but ``most_rows``.

    That is the most rows of all compiles of a command: they share the plans of what is beside the
    denoiser.
    """

    path: Path
    precision: str = "fp32"
    bounds: Bounds | Mapping[str, float] | None = None
    threads: int | None = None
    batch: int | Profile | Sequence[int] | None = None
    seconds: float | None = None
    options: BuildOptions = PLAIN
    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None
    most_rows: int = 0

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of those that differ from their defaults; of ``options``, its own names."""
        own = (n for n in _changed(self) if n not in (*COMMON, "options"))
        return (*own, *_changed(self.options))

    def only(self, takes: Iterable[str]) -> CompileArguments:
        """The same with the defaults in place of all that is not among ``takes``."""
        others = set(self.changed) - set(takes)
        options = dataclasses.replace(self.options, **_defaults(self.options, others))
        return dataclasses.replace(self, **_defaults(self, others), options=options)


def _changed(values: CompileArguments | BuildOptions) -> list[str]:
    return [f.name for f in dataclasses.fields(values) if getattr(values, f.name) != f.default]


def _defaults(values: CompileArguments | BuildOptions, names: set[str]) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(values) if f.name in names}


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What a bundle can be compiled for.

    Attributes:
        name: As ``--target`` has it.
        takes: The names of the ``CompileArguments`` and ``BuildOptions`` that it takes; ``path``,
            ``progress``, ``cancelled`` and ``most_rows`` go to every target.
        compile: Compiles into the bundle and checks what it made; a failure leaves it unchanged.
        precisions: Those that ``precision`` may name.
        not_offered: Others, with the reason.
        together: Whether one compile takes all numbers of rows, in place of one compile each.
        whole: Those of ``precisions`` whose compile takes the place of all that the target made
            before; the first measures what the others do.
    """

    name: str
    takes: tuple[str, ...]
    compile: Callable[[CompileArguments], Made]
    precisions: tuple[str, ...] = PRECISIONS
    not_offered: Mapping[str, str] = dataclasses.field(default_factory=dict)
    together: bool = False
    whole: tuple[str, ...] = ()

    def compiles(self, asked: Iterable[str]) -> list[str]:
        """The precisions to compile, in this order, for all that is asked to be in the bundle."""
        listed = list(dict.fromkeys(asked))
        whole = [precision for precision in self.whole if precision in listed]
        return whole[:1] + [precision for precision in listed if precision not in whole]


def content_key(bundle: Bundle, graph: Path, *parts: object) -> str:
    """Content, versions and options: the same key means the same compiled network."""
    sha = bundle.manifest["files"][graph.name]["sha256"]
    return hashlib.sha256("|".join(map(str, (sha, *parts))).encode()).hexdigest()[:32]
