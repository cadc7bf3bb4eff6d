"""A module of the suites in a Python process of its own, whose environment is always the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from typing import Any

from suites.regressions.figure import Place

KEPT = ("PATH", "HOME", "LD_LIBRARY_PATH", "TRITON_CACHE_DIR", "TMPDIR")
FIXED = {
    "PYTHONHASHSEED": "0",  # sets and dictionaries are laid out the same way
    "PYTHONSAFEPATH": "1",
    "OMP_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}
SECONDS = 900


def run(
    place: Place,
    module: str,
    *arguments: str,
    under: Sequence[str] = (),
    flags: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> str:
    """Runs a module with the package that is to be measured; gives what it printed.

    Args:
        place: What is measured.
        module: The module, or a file of Python.
        arguments: Its arguments.
        under: A command that runs it.
        flags: Options of Python.
        settings: Environment variables beside the fixed ones.

    Raises:
        RuntimeError: It failed, and the text has its last lines; or it took too long.
    """
    paths = [*_standard(), str(place.tree), str(place.checkout), *filter(os.path.isdir, sys.path)]
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {**FIXED, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), **(settings or {})}
    what = [module] if module.endswith(".py") else ["-m", module]
    command = [*under, sys.executable, *flags, *what, *arguments]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(command)} did not end within {SECONDS} s") from None
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
    return done.stdout


def answer(place: Place, module: str, *arguments: str, **options: Any) -> Any:
    """The last line that a module prints, which is JSON; as for ``run``."""
    return json.loads(run(place, module, *arguments, **options).strip().splitlines()[-1])


def _standard() -> list[str]:
    """The standard library, which no package may hide."""
    home = sysconfig.get_path("stdlib")
    return [home, os.path.join(home, "lib-dynload")]
