"""Where and with what a measurement was made: every committed row carries this."""

from __future__ import annotations

import contextlib
import datetime
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from revstep.engine.system.machine import (
    cpu_count,
    cpu_features,
    cpu_name,
    nvidia_gpus,
    package_version,
)

CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
PACKAGES = (
    *("revstep", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("torch", "triton", "diffusers"),
)


def machine_info(checkout: Path | None = None) -> dict[str, Any]:
    """Processor, features, clocks, GPUs, versions, the checkout's commit if any, time (UTC).

    All but the time is looked up once per process: rows may be written between measurements.

    Args:
        checkout: A folder in it; None: the current directory.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**_machine(Path.cwd() if checkout is None else checkout), "time": now}


@cache
def _machine(checkout: Path) -> dict[str, Any]:
    versions = {name: package_version(name) for name in PACKAGES}
    return {
        "cpu": cpu_name(),
        "features": list(cpu_features()),
        "cores": cpu_count(),
        "clocks": _clocks(),
        "gpus": [gpu.name for gpu in nvidia_gpus()],
        "drivers": sorted({gpu.driver for gpu in nvidia_gpus()}),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
        "commit": _commit(checkout),
    }


def _clocks() -> dict[str, str]:
    """What Linux says of the first processor's frequency (kHz); empty where it doesn't."""
    found = {}
    for name in ("scaling_governor", "scaling_cur_freq", "cpuinfo_max_freq"):
        with contextlib.suppress(OSError):
            found[name] = (CPUFREQ / name).read_text(encoding="ascii").strip()
    return found


def _commit(folder: Path) -> str | None:
    """The commit of revstep's checkout that a folder lies in, ``+`` if changed."""
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if not (Path(top) / "src" / "revstep").is_dir():
            return None
        changed = _git(folder, "status", "-s", "-uno")
        return _git(folder, "rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=True)
    return done.stdout.strip()
