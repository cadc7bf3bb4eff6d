"""The tests' support, whose small networks the suites measure too."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"


def support(name: str) -> Any:
    """A module of it, from a checkout."""
    if str(SUPPORT) not in sys.path:
        sys.path.insert(0, str(SUPPORT))
    return import_module(name)
