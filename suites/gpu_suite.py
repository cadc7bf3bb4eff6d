"""The GPU suite: `python suites/gpu_suite.py --out DIR`, from a checkout, with nothing installed.

This file only makes the checkout importable: a folder of links in which the folders at the root
are one package, `revstep`, and the native kernels, built if a compiler, CMake and nanobind are
there. The suite itself is `suites/gpu/suite.py`; `--help` tells what it measures.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("engine", "kernels", "export", "bench", "serve")  # pyproject.toml maps them
BUILD_SECONDS = 90


def make_links(root: Path, folder: Path) -> Path:
    """The package `revstep` in `folder`, of links into the checkout; returns `folder`."""
    package = folder / "revstep"
    package.mkdir()
    for path in (root / "src" / "revstep").iterdir():
        if path.name not in FOLDERS:  # a developer's own links
            (package / path.name).symlink_to(path)
    for name in FOLDERS:
        if name != "kernels" and (root / name).is_dir():
            (package / name).symlink_to(root / name)
    (package / "kernels").mkdir()  # a folder of its own, so that a built module can join it
    for path in (root / "kernels").iterdir():
        if path.name != "__pycache__":
            (package / "kernels" / path.name).symlink_to(path)
    (folder / "suites").symlink_to(root / "suites")
    return folder


def native_module(folder: Path) -> Path | None:
    """The native kernels in a folder that this Python could load."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        if (path := folder / f"_native{suffix}").is_file():
            return path
    return None


def add_native(root: Path, links: Path, *, build: bool = True) -> str:
    """Puts the native kernels beside the others; returns a line that says what runs."""
    if native_module(links / "revstep" / "kernels") is not None:
        return "native kernels: those of the checkout"
    if not build:
        return "native kernels: none (--no-build); the numpy reference runs in their place"
    try:
        built = build_native(root, links)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        last = said.splitlines()[-1] if said else type(error).__name__
        return f"native kernels: none ({last}); the numpy reference runs in their place"
    (links / "revstep" / "kernels" / built.name).symlink_to(built)
    return f"native kernels: built in {built.parent}"


def build_native(root: Path, spare: Path) -> Path:
    """Builds the native kernels with CMake; returns the module.

    Raises:
        RuntimeError: A tool is missing.
        subprocess.SubprocessError: The build failed or took too long.
    """
    cmake = shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    missing = [
        name for name, found in (("CMake", cmake), ("a C++ compiler", compiler)) if not found
    ]
    if importlib.util.find_spec("nanobind") is None:
        missing.append("nanobind")
    if missing or cmake is None:
        raise RuntimeError(f"they need {', '.join(missing)}")
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
    module = native_module(place)
    if module is None:
        raise RuntimeError(f"CMake left no module in {place}")
    return module


def main(arguments: Sequence[str] | None = None) -> int:
    """Links, then the suite; returns its exit code."""
    if not (ROOT / "src" / "revstep").is_dir():
        print(f"{ROOT} is no checkout of revstep; run suites/gpu_suite.py there", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="revstep-gpu-suite-") as folder:
        links = make_links(ROOT, Path(folder))
        sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT / "suites"]
        sys.path.insert(0, str(links))
        import revstep

        if Path(revstep.__file__).resolve().parents[2] != ROOT:
            print(
                f"another revstep comes first: {revstep.__file__}; run in an environment where "
                "revstep is not installed in editable mode",
                file=sys.stderr,
            )
            return 2
        from suites.gpu.suite import Checkout
        from suites.gpu.suite import main as run

        def prepare(build: bool) -> str:
            return add_native(ROOT, links, build=build)

        return run(arguments, Checkout(ROOT, links, prepare))


if __name__ == "__main__":
    sys.exit(main())
