"""The compiled kernels that a bundle holds, and which kernels run the step on a GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path
from typing import Any

from revstep.engine.bundle.layout import (
    KERNEL_CHOICES,
    KERNELS,
    file_damage,
    inside,
    kernels_command,
)
from revstep.engine.bundle.reader import Bundle
from revstep.engine.checks import check_one_of
from revstep.engine.errors import BackendError, BundleError
from revstep.engine.log import log

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
        parts = {part for name in self.names for part in name.split(".")}
        found = {part for part in parts if part[:3] == "sm_" and part[3:].isdecimal()}
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
            BundleError: They were; the message names the file and the command that fixes it.
        """
        from revstep.kernels.gpu.cubin import read_index

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
        wanted: ``triton``, ``aot`` (the bundle's), or ``auto``: the bundle's if it holds any that
            run here, which spares Triton's pause, else Triton. It warns of files that are damaged
            or stale.

    Raises:
        BackendError: Neither works here; the message names what to install, or to compile.
        BundleError: The bundle's kernels are needed, and damaged or stale.
        ValueError: An unknown choice.
    """
    check_one_of(wanted, "kernels", KERNEL_CHOICES)
    no_triton = _no_triton() if wanted != "aot" else None
    if wanted == "triton":
        if no_triton is None:
            return None
        why, fix = no_triton
        raise BackendError(f"kernels='triton' was asked for, and {why}; {fix}")
    files = KernelFiles.of(bundle)
    no_core = _no_core() if files is not None else None
    if files is not None and no_core is None:
        try:
            files.check()
        except BundleError as error:
            if wanted == "aot" or no_triton is not None:
                raise
            log.warning("Triton compiles the step's kernels anew: %s", error)
            return None
        return files.folder
    if wanted == "auto" and no_triton is None:
        return None
    lack = "" if no_triton is None else f"{no_triton[0]}, and "
    if no_core is not None:
        core, fix = no_core
        raise BackendError(f"{NEEDED} {lack}those compiled into {bundle.path} need {core}; {fix}")
    command = kernels_command(bundle.path)
    fix = f"run: {command}"
    if no_triton is not None:
        fix = f"{no_triton[1]}, or compile them into the bundle where Triton is: {command}"
    raise BackendError(f"{NEEDED} {lack}{bundle.path} holds no compiled ones; {fix}")


def _no_triton() -> tuple[str, str] | None:
    """Why Triton can't compile kernels here and what fixes that, or None."""
    import shutil
    import sysconfig

    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed", INSTALL
    if not os.environ.get("CC") and not shutil.which("gcc") and not shutil.which("clang"):
        return "Triton finds no C compiler (gcc, clang or $CC) for its launcher", "install gcc"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as Triton does
    if not (Path(sysconfig.get_paths(scheme)["include"]) / "Python.h").is_file():
        return (
            "Triton finds no headers of Python for its launcher",
            "install them (on Debian: apt-get install python3-dev)",
        )
    return None


def _no_core() -> tuple[str, str] | None:
    """Why cuda.core can't launch kernels here and what fixes that, or None."""
    try:
        import cuda.core  # noqa: F401
    except ImportError as error:
        return f"cuda.core, which can't be imported ({error})", INSTALL
    return None
