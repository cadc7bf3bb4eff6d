"""What this machine can run, and what to install for what it can't."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Any

from revstep import __version__
from revstep.engine.loading import BACKENDS, DEVICES
from revstep.engine.machine import (
    Gpu,
    cpu_count,
    cpu_features,
    cpu_name,
    nvidia_gpus,
    package_version,
)

__all__ = ["Check", "Report", "examine"]

_CPU_ONLY = f"revstep {__version__} runs on CPUs only"
_NO_GPU = "no NVIDIA GPU or driver was found"

STEP_ONLY = ("triton",)  # the fused step on a GPU; it runs no network


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that revstep can use.

    Attributes:
        name: What it is.
        status: ``ok``, ``missing`` (to be installed), ``unusable`` (not on this machine, or not by
            this version), or ``conflict``.
        detail: Versions, providers, or why it can't be used.
        cure: The command or step that mends it, or None.
    """

    name: str
    status: str
    detail: str
    cure: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole examination; ``to_dict`` is what ``revstep doctor --json`` prints."""

    revstep: str
    python: str
    system: str
    cpu: dict[str, Any]
    gpus: tuple[Gpu, ...]
    kernels: Check
    backends: tuple[Check, ...]
    tools: tuple[Check, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks in the order in which they are shown."""
        return (self.kernels, *self.backends, *self.tools)

    @property
    def can_sample(self) -> bool:
        """Whether any backend can run a denoiser."""
        return any(c.status == "ok" for c in self.backends if c.name not in STEP_ONLY)

    @property
    def healthy(self) -> bool:
        """Whether something can be sampled and nothing is in conflict; extras may be missing."""
        return self.can_sample and all(check.status != "conflict" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "can_sample": self.can_sample, "healthy": self.healthy}


def examine() -> Report:
    """Examines this machine; imports no backend but ONNX Runtime (for its providers)."""
    gpus = nvidia_gpus()
    return Report(
        revstep=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu={"name": cpu_name(), "usable_cores": cpu_count(), "features": list(cpu_features())},
        gpus=gpus,
        kernels=_kernels(),
        backends=(
            *_onnxruntime(gpus),
            _gpu_package("tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), gpus),
            _gpu_package("tensorrt-rtx", ("tensorrt-rtx", "tensorrt_rtx"), gpus),
            _gpu_package("triton", ("triton",), gpus),
        ),
        tools=(
            _packages("export", ("torch", "onnx", "onnxscript"), "export"),
            _packages("export of diffusers folders", ("diffusers", "safetensors"), "export"),
            _packages("images", ("pillow",), "images"),
        ),
    )


def _kernels() -> Check:
    from revstep import kernels

    if kernels.backend() == "native":
        return Check("fused step", "ok", f"native C++: {', '.join(kernels.native_isas())}")
    return Check(
        "fused step",
        "missing",
        "the numpy reference runs instead: the same bits, far slower",
        "install a C++ compiler, then install revstep again from source",
    )


def _onnxruntime(gpus: tuple[Gpu, ...]) -> tuple[Check, Check]:
    """ONNX Runtime on the CPU and on CUDA: two packages that share one set of files."""
    names = ("onnxruntime, CPU", "onnxruntime, CUDA")
    cpu, gpu = package_version("onnxruntime"), package_version("onnxruntime-gpu")
    if cpu and gpu:
        detail = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} overwrite each other's files"
        extra = "cuda" if gpus and "cuda" in DEVICES else "cpu"
        cure = f"pip uninstall -y onnxruntime onnxruntime-gpu && {_install(extra)}"
        on_cpu, on_cuda = (Check(name, "conflict", detail, cure) for name in names)
        return on_cpu, on_cuda
    if not cpu and not gpu:
        return Check(names[0], "missing", "", _install("cpu")), _cuda(names[1], "", gpus, ())
    found = f"onnxruntime {cpu}" if cpu else f"onnxruntime-gpu {gpu}"
    try:
        import onnxruntime

        providers = tuple(onnxruntime.get_available_providers())
    except Exception as error:  # a broken install fails in many ways; this is here to say so
        cure = f"pip install --force-reinstall {found.split()[0]}"
        detail = f"{found} is installed and does not import: {error}"
        on_cpu, on_cuda = (Check(name, "unusable", detail, cure) for name in names)
        return on_cpu, on_cuda
    return Check(names[0], "ok", found), _cuda(names[1], found, gpus, providers)


def _cuda(name: str, found: str, gpus: tuple[Gpu, ...], providers: tuple[str, ...]) -> Check:
    if "cuda" not in DEVICES:
        return Check(name, "unusable", _CPU_ONLY)
    if not gpus:
        return Check(name, "unusable", _NO_GPU)
    if "CUDAExecutionProvider" in providers:
        return Check(name, "ok", found)
    swap = "pip uninstall -y onnxruntime && " if found else ""
    detail = f"{found} offers {', '.join(providers)}" if found else ""
    return Check(name, "missing", detail, swap + _install("cuda"))


def _gpu_package(name: str, distributions: tuple[str, ...], gpus: tuple[Gpu, ...]) -> Check:
    versions = (f"{d} {version}" for d in distributions if (version := package_version(d)))
    found = next(versions, "")
    if name not in BACKENDS and not (name == "triton" and "cuda" in DEVICES):
        return Check(name, "unusable", f"{found}; {_CPU_ONLY}" if found else _CPU_ONLY)
    if not gpus:
        return Check(name, "unusable", f"{found}; {_NO_GPU}" if found else _NO_GPU)
    return Check(name, "ok", found) if found else Check(name, "missing", "", _install(name))


def _packages(name: str, distributions: tuple[str, ...], extra: str) -> Check:
    versions = {d: package_version(d) for d in distributions}
    if missing := [d for d, version in versions.items() if version is None]:
        return Check(name, "missing", f"lacks {', '.join(missing)}", _install(extra))
    return Check(name, "ok", ", ".join(f"{d} {version}" for d, version in versions.items()))


def _install(extra: str) -> str:
    return f"pip install 'revstep[{extra}]'"
