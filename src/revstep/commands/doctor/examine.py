"""What this machine can run, what that means, and what to install for what it can't."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Any

from revstep import __version__
from revstep.commands.doctor import gpu
from revstep.commands.doctor.check import NO_GPU, Check, install
from revstep.engine.system.cores import usable_threads
from revstep.engine.system.machine import (
    Gpu,
    cpu_count,
    cpu_features,
    cpu_name,
    has_bf16,
    nvidia_gpus,
    package_version,
)
from revstep.engine.system.telemetry import quiet_openvino, telemetry

__all__ = ["Check", "Report", "examine"]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole examination; ``to_dict`` is what ``revstep doctor --json`` prints."""

    revstep: str
    python: str
    system: str
    cpu: dict[str, Any]
    telemetry: dict[str, str]
    gpus: tuple[Gpu, ...]
    kernels: Check
    cuda: tuple[Check, ...]
    backends: tuple[Check, ...]
    tools: tuple[Check, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks in the order in which they are shown."""
        return (self.kernels, *self.backends, *self.cuda, *self.tools)

    @property
    def can_sample(self) -> bool:
        """Whether any backend can run a bundle."""
        return any(check.status == "ok" for check in self.backends)

    @property
    def healthy(self) -> bool:
        """Whether something can be sampled and nothing is in conflict; extras may be missing."""
        return self.can_sample and all(check.status != "conflict" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``cure`` is ``fix`` by its old name."""
        return {
            **asdict(self, dict_factory=_with_cure),
            "can_sample": self.can_sample,
            "healthy": self.healthy,
        }


def _with_cure(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    return found | {"cure": found["fix"]} if "fix" in found else found


def examine() -> Report:
    """Examines this machine; imports no backend but ONNX Runtime and OpenVINO."""
    gpus = nvidia_gpus()
    parts = (gpu.driver, gpu.torch, gpu.triton, gpu.cuda_core)
    cuda = tuple(part(gpus) for part in parts)
    blocked = gpu.blocked(cuda)
    return Report(
        revstep=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu={
            "name": cpu_name(),
            "usable_cores": cpu_count(),
            "threads": usable_threads(),
            "features": list(cpu_features()),
        },
        telemetry=telemetry(),
        gpus=gpus,
        kernels=_kernels(),
        cuda=cuda,
        backends=(
            *_onnxruntime(gpus, blocked),
            _openvino(),
            gpu.tensorrt(gpus, blocked),
            gpu.tensorrt_rtx(gpus, blocked),
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
        return Check("step on a CPU", "ok", f"native C++: {', '.join(kernels.native_isas())}")
    return Check(
        "step on a CPU",
        "missing",
        "the numpy reference runs instead: the same bits, far slower",
        "install a C++ compiler, then install revstep again from source",
    )


def _onnxruntime(gpus: tuple[Gpu, ...], blocked: str) -> tuple[Check, Check]:
    """ONNX Runtime on the CPU and on CUDA: two packages that share one set of files."""
    names = ("onnxruntime, CPU", "onnxruntime, CUDA")
    cpu, gpu = package_version("onnxruntime"), package_version("onnxruntime-gpu")
    if cpu and gpu:
        detail = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} overwrite each other's files"
        extra = "cuda" if gpus else "cpu"
        fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && {install(extra)}"
        on_cpu, on_cuda = (Check(name, "conflict", detail, fix) for name in names)
        return on_cpu, on_cuda
    if not cpu and not gpu:
        on_cpu = Check(names[0], "missing", "the default backend", install("cpu"))
        return on_cpu, _onnxruntime_cuda(names[1], "", gpus, blocked, ())
    found = f"onnxruntime {cpu}" if cpu else f"onnxruntime-gpu {gpu}"
    try:
        import onnxruntime

        providers = tuple(onnxruntime.get_available_providers())
    except Exception as error:  # a broken install fails in many ways; all are reported
        fix = f"pip install --force-reinstall {found.split()[0]}"
        detail = f"{found} is installed and does not import: {error}"
        on_cpu, on_cuda = (Check(name, "unusable", detail, fix) for name in names)
        return on_cpu, on_cuda
    on_cpu = Check(names[0], "ok", f"{found}: the default backend")
    return on_cpu, _onnxruntime_cuda(names[1], found, gpus, blocked, providers)


def _onnxruntime_cuda(
    name: str, found: str, gpus: tuple[Gpu, ...], blocked: str, providers: tuple[str, ...]
) -> Check:
    if not gpus:
        return Check(name, "unusable", NO_GPU)
    offers = f"{found} offers {', '.join(providers)}" if found else ""
    if "CUDAExecutionProvider" not in providers:
        swap = "pip uninstall -y onnxruntime && " if found else ""
        return Check(name, "missing", offers, swap + install("cuda"))
    return Check(name, "unusable", f"{found}; {blocked}") if blocked else Check(name, "ok", found)


def _openvino() -> Check:
    name, found = "openvino, CPU", package_version("openvino")
    if found is None:
        return Check(name, "missing", "faster on some networks; bf16", install("openvino"))
    try:
        with quiet_openvino():
            import openvino

        openvino.Core()
    except Exception as error:  # a broken install fails in many ways; all are reported
        fix = "pip install --force-reinstall openvino"
        detail = f"openvino {found} is installed and does not import: {error}"
        return Check(name, "unusable", detail, fix)
    half = "fp32 and bf16" if has_bf16() else "fp32 (this processor has no bf16)"
    return Check(name, "ok", f"openvino {found}: {half}")


def _packages(name: str, distributions: tuple[str, ...], extra: str) -> Check:
    versions = {d: package_version(d) for d in distributions}
    if missing := [d for d, version in versions.items() if version is None]:
        return Check(name, "missing", f"lacks {', '.join(missing)}", install(extra))
    return Check(name, "ok", ", ".join(f"{d} {version}" for d, version in versions.items()))
