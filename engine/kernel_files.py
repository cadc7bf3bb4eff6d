"""The compiled kernels that a bundle holds, and which kernels run the step on a GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from revstep.engine.bundle import Bundle
from revstep.engine.errors import BackendError, BundleError
from revstep.engine.manifest import KERNELS, file_damage, inside, kernels_command

__all__ = ["CHOICES", "KernelFiles", "choose_kernels"]

CHOICES = ("auto", "triton", "aot")
INDEX = "/kernels.json"
NEEDED = "the step on a GPU needs its kernels:"
INSTALL = "pip install 'revstep[cuda]'"


@dataclasses.dataclass(frozen=True, slots=True)
class KernelFiles:
    """The kernels in a bundle, compiled ahead of time.

    Attributes:
        folder: Where they are.
        bundle: The bundle.
    """

    folder: Path
    bundle: Bundle

    @classmethod
    def of(cls, bundle: Bundle) -> KernelFiles | None:
        """Those that the manifest lists, or None."""
        for name in bundle.manifest["files"]:
            if name.startswith(KERNELS) and name.endswith(INDEX):
                return cls(inside(bundle.path, name).parent, bundle)
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """The files' names in the bundle."""
        return tuple(n for n in self.bundle.manifest["files"] if n.startswith(KERNELS))

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(int(self.bundle.manifest["files"][name]["bytes"]) for name in self.names)

    @property
    def targets(self) -> tuple[str, ...]:
        """What there is machine code for, as ``sm_90``; the portable PTX is always there."""
        found = {part for name in self.names for part in name.split(".") if part[:3] == "sm_"}
        return tuple(sorted(found, key=lambda sm: int(sm[3:])))

    def __str__(self) -> str:
        """``14 kernels for sm_80, sm_90 and as portable PTX``."""
        portable = sum(name.endswith(".ptx") for name in self.names)
        code = f"for {', '.join(self.targets)} and " if self.targets else ""
        return f"{portable} kernels {code}as portable PTX"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"targets": list(self.targets), "files": list(self.names), "bytes": self.bytes}

    @property
    def command(self) -> str:
        """The command that makes them anew."""
        return kernels_command(self.bundle.path, self.names)

    def check(self) -> None:
        """Refuses files that were damaged, or compiled from other kernels than this revstep's.

        Raises:
            BundleError: They were; the message names the file and the command that mends it.
        """
        from revstep.kernels.launch import read_index

        for name in self.names:
            where = self.bundle.path / name
            if damage := file_damage(where, self.bundle.manifest["files"][name]):
                raise BundleError(f"{where} {damage}; make it anew with: {self.command}")
        try:
            read_index(self.folder)
        except (ValueError, OSError) as error:
            raise BundleError(f"{error}; run: {self.command}") from error


def choose_kernels(bundle: Bundle, wanted: str = "auto") -> Path | None:
    """The folder of the bundle's compiled kernels, or None where Triton compiles them now.

    Args:
        bundle: The bundle.
        wanted: ``triton``, ``aot`` (the bundle's), or ``auto``: Triton if it works here, else the
            bundle's.

    Raises:
        BackendError: Neither works here; the message names what to install, or to compile.
        BundleError: The bundle's kernels are needed, and damaged or stale.
        ValueError: An unknown choice.
    """
    if wanted not in CHOICES:
        raise ValueError(f"unknown kernels {wanted!r}; allowed: {', '.join(CHOICES)}")
    command = kernels_command(bundle.path)
    remedy, why = f"run: {command}", ""
    if wanted != "aot":
        missing = _no_triton()
        if missing is None:
            return None
        why, cure = missing
        if wanted == "triton":
            raise BackendError(f"kernels='triton' was asked for, and {why}; {cure}")
        remedy = f"{cure}, or compile them into the bundle where Triton is: {command}"
        why = f"{why}, and "
    files = KernelFiles.of(bundle)
    if files is None:
        raise BackendError(f"{NEEDED} {why}{bundle.path} holds no compiled ones; {remedy}")
    if missing := _no_core():
        core, cure = missing
        raise BackendError(f"{NEEDED} {why}those compiled into {bundle.path} need {core}; {cure}")
    files.check()
    return files.folder


def _no_triton() -> tuple[str, str] | None:
    """Why Triton can't compile kernels here and what mends that, or None."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed", INSTALL
    if not os.environ.get("CC") and not shutil.which("gcc") and not shutil.which("clang"):
        return "Triton finds no C compiler (gcc, clang or $CC) for its launcher", "install gcc"
    return None


def _no_core() -> tuple[str, str] | None:
    """Why cuda.core can't launch kernels here and what mends that, or None."""
    try:
        import cuda.core  # noqa: F401
    except ImportError as error:
        return f"cuda.core, which can't be imported ({error})", INSTALL
    return None
