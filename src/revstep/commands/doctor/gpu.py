"""What ``revstep doctor`` finds for GPUs: driver, torch, the step's kernels, TensorRT."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from revstep.commands.doctor.check import NO_GPU, Check, install
from revstep.engine.backends.trt.choice import NO_RTX_TARGET
from revstep.engine.system.machine import Gpu, package_version

MIN_DRIVER = {"12": 525, "13": 580}  # by CUDA's major version
MIN_CAPABILITY = 8.0  # of the step's kernels


def driver(gpus: tuple[Gpu, ...]) -> Check:
    """The driver and its GPUs."""
    name = "NVIDIA driver"
    if not gpus:
        return Check(name, "unusable", f"{NO_GPU}; everything runs on the CPU")
    found = ", ".join(f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in gpus)
    if all(_capability(gpu) < MIN_CAPABILITY for gpu in gpus):
        return Check(name, "unusable", f"{found}; the step's kernels need {MIN_CAPABILITY}")
    return Check(name, "ok", f"{gpus[0].driver}: {found}")


def torch(gpus: tuple[Gpu, ...]) -> Check:
    """The memory, streams and graphs of torch, which every GPU backend runs in."""
    name, version = "torch, CUDA", package_version("torch")
    if version is None:
        return Check(name, *_absent(gpus, "every GPU backend runs in its memory and streams"))
    cuda = _torch_cuda()
    if cuda is None:
        detail = f"torch {version} is a CPU build: it exports, and runs live modules on the CPU"
        if not gpus:
            return Check(name, "unusable", f"{detail}; {NO_GPU}")
        return Check(name, "missing", detail, f"pip uninstall -y torch && {install('cuda')}")
    found = f"torch {version} for CUDA {cuda}"
    if not gpus:
        return Check(name, "unusable", f"{found}; {NO_GPU}")
    minimum = MIN_DRIVER.get(cuda.partition(".")[0], 0)
    driver = gpus[0].driver.partition(".")[0]
    if driver.isdigit() and int(driver) < minimum:
        detail = f"{found} needs driver {minimum} or newer; this one is {gpus[0].driver}"
        return Check(name, "unusable", detail, f"install NVIDIA's driver {minimum} or newer")
    return Check(name, "ok", f"{found}: memory, streams and CUDA graphs; live modules")


def _torch_cuda() -> str | None:
    """The CUDA version that torch is built for, read without importing it."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=\n]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def triton(gpus: tuple[Gpu, ...]) -> Check:
    """What compiles the step's kernels on this machine."""
    name, version = "Triton", package_version("triton")
    if version is None:
        return Check(name, *_absent(gpus, "it compiles the step's GPU kernels"))
    found = f"triton {version}"
    if not gpus:
        meaning = f"compiles kernels into bundles (revstep compile --kernels); {NO_GPU}"
        return Check(name, "builds", f"{found} {meaning}")
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        detail = (
            f"{found} finds no C compiler for its launcher; bundles with compiled kernels run "
            "without (revstep compile --kernels)"
        )
        return Check(name, "unusable", detail, "install gcc")
    return Check(name, "ok", f"{found} compiles the step's kernels when they are first used")


def cuda_core(gpus: tuple[Gpu, ...]) -> Check:
    """What launches the kernels of a bundle."""
    name, version = "cuda.core", package_version("cuda-core")
    meaning = "it launches kernels that were compiled into a bundle, without Triton"
    if version is None or package_version("cuda-bindings") is None:
        return Check(name, *_absent(gpus, meaning))
    if not gpus:
        return Check(name, "unusable", f"cuda-core {version}; {NO_GPU}")
    return Check(name, "ok", f"cuda-core {version}: {meaning}")


def _absent(gpus: tuple[Gpu, ...], meaning: str) -> tuple[str, str, str | None]:
    """Status, detail and fix of what the ``cuda`` extra brings, and is not installed."""
    if not gpus:
        return "unusable", f"not installed, and of no use here: {NO_GPU}", None
    return "missing", f"not installed; {meaning}", install("cuda")


def blocked(cuda: tuple[Check, ...]) -> str:
    """Why no backend can run on a GPU here; empty where one can."""
    driver, torch, triton, core = cuda
    if driver.status != "ok":
        return (
            driver.detail.partition(";")[0] if driver.detail.startswith(NO_GPU) else driver.detail
        )
    if torch.status != "ok":
        return "it needs torch with CUDA (see below)"
    if "ok" not in (triton.status, core.status):
        return "the step needs Triton or cuda.core (see below)"
    return ""


def tensorrt(gpus: tuple[Gpu, ...], blocked: str) -> Check:
    """TensorRT, which builds for the GPU of its machine only."""
    name, found = "TensorRT", _first_of("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
    if not gpus:
        meaning = "it builds and runs plans on the GPU of its machine"
        return Check(name, "unusable", f"{found or meaning}; {NO_GPU}")
    if not found:
        return Check(name, "missing", "compiled plans for this GPU", install("tensorrt"))
    if blocked:
        return Check(name, "unusable", f"{found}; {blocked}")
    return Check(name, "ok", f"{found}: revstep compile --target tensorrt")


def tensorrt_rtx(gpus: tuple[Gpu, ...], blocked: str) -> Check:
    """TensorRT-RTX, which builds without a GPU too."""
    name, found = "TensorRT-RTX", _first_of("tensorrt-rtx", "tensorrt_rtx")
    targets = {f"sm_{gpu.compute_capability.replace('.', '')}" for gpu in gpus}
    command = "revstep compile --target tensorrt_rtx"
    if gpus and targets <= set(NO_RTX_TARGET):
        detail = f"it has no target for {', '.join(sorted(targets))}: use TensorRT"
        return Check(name, "builds" if found else "unusable", f"{found}; {detail}".lstrip("; "))
    if not found:
        return Check(name, "missing", "plans for GeForce and RTX GPUs", install("tensorrt-rtx"))
    if not gpus or blocked:
        detail = f"{found} builds plans ({command}) for other machines; {blocked or NO_GPU}"
        return Check(name, "builds", detail)
    return Check(name, "ok", f"{found}: {command}")


def _first_of(*distributions: str) -> str:
    """The first of the distributions that is installed, with its version."""
    versions = (f"{d} {version}" for d in distributions if (version := package_version(d)))
    return next(versions, "")


def _capability(gpu: Gpu) -> float:
    try:
        return float(gpu.compute_capability)
    except ValueError:
        return MIN_CAPABILITY  # unknown to this driver's tool; torch reports it later
