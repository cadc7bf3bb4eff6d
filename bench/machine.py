"""Where and with what a measurement was made: every committed row carries this."""

from __future__ import annotations

import datetime
import platform
import subprocess
from pathlib import Path
from typing import Any

from revstep.engine.system.machine import cpu_count, cpu_name, nvidia_gpus, package_version

__all__ = ["machine_info"]

PACKAGES = ("revstep", "numpy", "onnxruntime", "onnxruntime-gpu", "torch", "triton", "diffusers")


def machine_info() -> dict[str, Any]:
    """Processor, GPUs, versions, the checkout's commit if there is one, and the time (UTC)."""
    versions = {name: package_version(name) for name in PACKAGES}
    return {
        "cpu": cpu_name(),
        "cores": cpu_count(),
        "gpus": [gpu.name for gpu in nvidia_gpus()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
        "commit": _commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of revstep's checkout that the current directory lies in, ``+`` if changed."""
    try:
        top = _git("rev-parse", "--show-toplevel")
        if not (Path(top) / "src" / "revstep").is_dir():
            return None
        return _git("rev-parse", "--short=12", "HEAD") + (
            "+" if _git("status", "-s", "-uno") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, timeout=10.0, check=True
    )
    return done.stdout.strip()
