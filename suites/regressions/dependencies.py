"""How many distributions a CPU service installs."""

from __future__ import annotations

import sys

from suites.regressions.closure import EXTRA, service
from suites.regressions.figure import Figure, Found, Group, Place
from suites.regressions.versions import version_of

FIGURE = Figure(f"revstep[{EXTRA}]", "distributions")


def measure(place: Place) -> Found:
    """All that it needs, and what those need."""
    names = tuple(service(place))
    return Found({FIGURE.name: len(names)}, {FIGURE.name: names})


GROUP = Group(
    "dependencies",
    f"distributions beside revstep that `pip install 'revstep[{EXTRA}]'` installs",
    (FIGURE,),
    lambda place: {"system": sys.platform, "onnxruntime": version_of("onnxruntime")},
    measure,
)
