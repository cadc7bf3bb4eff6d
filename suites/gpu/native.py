"""The native kernels of a checkout: those that are there, or built for this run of the suite."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

BUILD_SECONDS = 90


def add_native(root: Path, links: Path, *, build: bool = True) -> str:
    """Puts the native kernels beside the others; returns a line that names what runs.

    Args:
        root: The checkout.
        links: The folder of links that revstep is imported from.
        build: Whether to build them where there are none.
    """
    kernels = links / "revstep" / "kernels"
    if _module_in(kernels) is not None:
        return "native kernels: those of the checkout"
    why = "--no-build"
    if build:
        try:
            built = _build(root, links)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            text = str(getattr(error, "stderr", None) or error).strip()
            why = text.splitlines()[-1] if text else type(error).__name__
        else:
            (kernels / built.name).symlink_to(built)
            return f"native kernels: built in {built.parent}"
    return f"native kernels: none ({why}); the numpy reference runs in their place"


def _module_in(folder: Path) -> Path | None:
    """The native kernels in a folder that this Python could load."""
    names = (f"_native{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _build(root: Path, spare: Path) -> Path:
    """Builds the native kernels with CMake; returns the module.

    Raises:
        RuntimeError: A tool is missing.
        subprocess.SubprocessError: The build failed or took too long.
    """
    cmake = shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    tools = {
        "CMake": cmake,
        "a C++ compiler": compiler,
        "nanobind": importlib.util.find_spec("nanobind"),
    }
    if cmake is None or not all(tools.values()):
        raise RuntimeError(f"they need {', '.join(name for name in tools if not tools[name])}")
    place = root / "build" / f"gpu_suite-{sys.implementation.cache_tag}"  # kept: the next is quick
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        place = spare / "build"
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = [cmake, "-S", str(root), "-B", str(place), *ninja]
    for command in (
        [*configure, "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}"],
        [cmake, "--build", str(place), "--parallel"],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS)
    module = _module_in(place)
    if module is None:
        raise RuntimeError(f"CMake left no module in {place}")
    return module
