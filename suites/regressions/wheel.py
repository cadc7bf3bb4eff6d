"""Size of the wheel, and of the native kernels in it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from suites.regressions.figure import CannotMeasure, Figure, Found, Group, Place
from suites.regressions.versions import compiler_of

LIBRARIES = (".so", ".pyd", ".dylib")


def measure(place: Place) -> Found:
    """Bytes of the file; bytes of the library that it holds."""
    path = wheel_of(place)
    with zipfile.ZipFile(path) as wheel:
        native = sum(i.file_size for i in wheel.infolist() if i.filename.endswith(LIBRARIES))
    return Found({"wheel": path.stat().st_size, "native kernels": native})


def versions(place: Place) -> dict[str, str]:
    """The wheel's tag, and what compiled its library."""
    path = wheel_of(place)
    with zipfile.ZipFile(path) as wheel:
        libraries = [name for name in wheel.namelist() if name.endswith(LIBRARIES)]
        compiler = "; ".join(compiler_of(wheel.read(name)) for name in libraries)
    return {"tag": path.stem.split("-", 2)[2], "compiler": compiler}


def wheel_of(place: Place) -> Path:
    """The wheel.

    Raises:
        CannotMeasure: There is none.
    """
    if place.wheel is None:
        raise CannotMeasure("no wheel was named: `make bench-check` builds one, or --wheel FILE")
    return place.wheel


GROUP = Group(
    "wheel",
    "the wheel as pip fetches it, and the native kernels in it",
    (Figure("wheel", "bytes", share=0.02), Figure("native kernels", "bytes", share=0.02)),
    versions,
    measure,
)
