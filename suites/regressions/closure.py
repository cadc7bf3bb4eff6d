"""What `pip install 'revstep[cpu]'` brings, found among what is installed: without a network."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from suites.regressions.figure import CannotMeasure, Place
from suites.regressions.wheel import wheel_of

EXTRA = "cpu"


def service(place: Place) -> dict[str, Distribution]:
    """Name -> distribution, of all that the wheel's extra ``cpu`` needs, revstep left out.

    Raises:
        CannotMeasure: No wheel, or a distribution that it needs is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = [*_needed(_requirements(place), frozenset({EXTRA}))]
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if name in found and not need.extras:
            continue
        try:
            found[name] = distribution(need.name)
        except PackageNotFoundError:
            raise CannotMeasure(
                f"{need.name} is not installed (pip install 'revstep[{EXTRA}]')"
            ) from None
        waiting += _needed(found[name].requires or [], frozenset(need.extras))
    return dict(sorted(found.items()))


def size_of(found: Distribution) -> int:
    """Bytes of a distribution's files, without what Python compiles when it is first imported."""
    files = [Path(str(f.locate())) for f in found.files or [] if f.suffix != ".pyc"]
    return sum(file.stat().st_size for file in files if file.is_file())


def own_size(place: Place) -> int:
    """Bytes of what the wheel installs."""
    with zipfile.ZipFile(wheel_of(place)) as wheel:
        return sum(entry.file_size for entry in wheel.infolist())


def _requirements(place: Place) -> list[str]:
    with zipfile.ZipFile(wheel_of(place)) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        return message_from_bytes(wheel.read(name)).get_all("Requires-Dist") or []


def _needed(lines: Sequence[str], extras: frozenset[str]) -> Iterator[Requirement]:
    for need in map(Requirement, lines):
        wanted = extras or {""}
        if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in wanted):
            yield need
