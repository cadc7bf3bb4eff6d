"""Programs in ``examples``, which are no packages: imported by their path, or run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import revstep

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 120.0


def imported(path):
    """The program at ``path`` in ``examples`` as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{Path(path).stem}", EXAMPLES / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def environment(**more):
    """That of a child which finds the revstep of this test."""
    root = Path(revstep.__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **more}


def printed(*command):
    """What a program of ``examples`` prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / command[0]), *map(str, command[1:])],
        env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
