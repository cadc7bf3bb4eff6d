"""Size of an installed CPU service."""

from __future__ import annotations

from suites.regressions.closure import EXTRA, own_size, service, size_of
from suites.regressions.figure import Figure, Found, Group, Place

MEGABYTE = 1e6
FIGURE = Figure(f"revstep[{EXTRA}]", "MB", share=0.02)


def measure(place: Place) -> Found:
    """The wheel's files and those of every distribution that it needs."""
    size = own_size(place) + sum(map(size_of, service(place).values()))
    return Found({FIGURE.name: round(size / MEGABYTE, 2)})


def versions(place: Place) -> dict[str, str]:
    """Of every distribution."""
    return {name: found.version for name, found in service(place).items()}


GROUP = Group(
    "install_size",
    f"what `pip install 'revstep[{EXTRA}]'` writes, before Python compiles any of it",
    (FIGURE,),
    versions,
    measure,
)
