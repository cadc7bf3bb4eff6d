"""What does `import revstep` cost a new process, beside Python, numpy and diffusers?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from suites.cpu.turns import OURS
from suites.questions.compare import Compare

pytest.importorskip("diffusers")


def process(code: str) -> Callable[[], object]:
    """A fresh interpreter that runs the code."""
    return lambda: subprocess.run(
        [sys.executable, "-c", code], env=OURS.environment(), check=True, capture_output=True
    )


def test_import(compare: Compare) -> None:
    others = {
        "Python alone": process("pass"),
        "numpy": process("import numpy"),
        "diffusers": process("from diffusers import DDIMScheduler"),
    }
    compare("a process that imports it", process("import revstep"), others)
