"""Which of a bundle's TensorRT plans runs here: chosen, or named by the command that makes one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from revstep.engine.backends.trt.denoiser import TrtDenoiser
from revstep.engine.backends.trt.library import PACKAGES, trt_library
from revstep.engine.backends.trt.plan import PlanFile, rows_text
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError
from revstep.engine.message import Argument
from revstep.engine.system.user_cache import read_cache, write_cache

if TYPE_CHECKING:
    import torch


NO_RTX_TARGET = ("sm_90", "sm_100", "sm_103")  # data-centre GPUs, which TensorRT-RTX doesn't know


@dataclasses.dataclass(frozen=True, slots=True)
class GpuModel:
    """What a plan is tied to: a GPU's name and compute capability; as text ``NVIDIA L4 (sm_89)``.

    Attributes:
        name: As the driver names it.
        capability: (major, minor).
    """

    name: str
    capability: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name} ({self.sm})"

    @property
    def sm(self) -> str:
        """The compute capability as ``sm_89``."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    @classmethod
    def current(cls, device: str | torch.device = "cuda") -> GpuModel:
        """The GPU of a torch device.

        Raises:
            BackendError: torch has no CUDA, or sees no GPU.
        """
        import torch

        if not torch.cuda.is_available():
            why = "is a CPU build" if torch.version.cuda is None else "finds no usable NVIDIA GPU"
            raise BackendError(
                f"TensorRT runs on CUDA, and torch {torch.__version__} {why}: install a CUDA "
                "build of torch and the NVIDIA driver, or use ",
                Argument("device", "cpu"),
            )
        return cls(torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))

    def runs(self, entry: CompiledEntry) -> bool:
        """Whether the entry was compiled for this GPU."""
        return entry.device == str(self) or self.sm in entry.device.split(",")


def installed_versions() -> dict[str, str]:
    """``tensorrt`` and ``tensorrt_rtx`` -> version, of those that can be imported."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(BackendError):
            versions[name] = trt_library(name).version
    return versions


def find_plan(
    bundle: Bundle,
    gpu: GpuModel,
    batch: int,
    *,
    precision: str = "fp32",
    versions: Mapping[str, str] | None = None,
) -> CompiledEntry:
    """The plan that runs ``batch`` rows on a GPU best.

    A static plan comes before a dynamic one, TensorRT before TensorRT-RTX, and among dynamic
    plans the one tuned for the nearest batch.

    Args:
        bundle: The bundle.
        gpu: The GPU that will run it.
        batch: Rows of a network call.
        precision: Of the graph.
        versions: Installed packages and versions; None looks.

    Raises:
        BackendError: There is none; the message says what there is, and which command makes one.
    """
    usable = usable_plans(bundle, gpu, precision=precision, batch=batch, versions=versions)
    fitting = [e for e in usable if e.batch[0] <= batch <= e.batch[1]]
    if not fitting:
        have = ", ".join(rows_text(entry.batch) for entry in usable)
        raise BackendError(
            f"{bundle.path} has no TensorRT plan ({precision}) for {batch} rows; its plans for "
            f"{gpu} take {have}; run: {_command(bundle, usable[0].target, precision, batch)}"
        )
    order = list(PACKAGES)

    def cost(entry: CompiledEntry) -> tuple[bool, int, int]:
        distance = abs((entry.tuned or batch) - batch)
        return entry.batch[0] != entry.batch[1], distance, order.index(entry.target)

    return min(fitting, key=cost)


def usable_plans(
    bundle: Bundle,
    gpu: GpuModel,
    *,
    precision: str = "fp32",
    batch: int = 1,
    versions: Mapping[str, str] | None = None,
) -> list[CompiledEntry]:
    """The bundle's plans of a precision that run on this GPU with the installed TensorRT.

    Raises:
        BackendError: There is none: none of that precision, for another GPU, or of another
            version; the message names the command that makes one, for ``batch`` rows.
    """
    versions = installed_versions() if versions is None else versions
    target = _target(gpu, versions)
    fix = f"on this machine run: {_command(bundle, target, precision, batch)}"
    plans = [e for e in bundle.compiled if e.target in PACKAGES and e.file is not None]
    found = [e for e in plans if e.precision == precision]
    if not found:
        have = ", ".join(sorted({e.precision for e in plans}))
        other = f" (it has {have})" if have else ""
        raise BackendError(
            f"{bundle.path} has no TensorRT plan of {precision}{other} for {gpu}; {fix}"
        )
    here = [e for e in found if gpu.runs(e)]
    if not here:
        devices = ", ".join(sorted({e.device for e in found}))
        raise BackendError(
            f"{bundle.path}: its TensorRT plans ({precision}) are for {devices}; this GPU is "
            f"{gpu}; {fix}"
        )
    usable = [e for e in here if versions.get(e.target) == e.version]
    if not usable:
        built = ", ".join(sorted({f"{e.target} {e.version}" for e in here}))
        have = ", ".join(f"{k} {v}" for k, v in versions.items()) or "no TensorRT at all"
        install = "" if versions else f"pip install 'revstep[{PACKAGES[target]}]', or "
        raise BackendError(
            f"{bundle.path}: its plans for {gpu} were built by {built}; installed is {have}, and "
            f"a plan runs only on the version that built it; {install}{fix}"
        )
    return usable


def open_tensorrt(
    bundle: Bundle,
    *,
    precision: str = "fp32",
    batches: Sequence[int] | None = None,
    device: str | torch.device = "cuda",
) -> TrtDenoiser:
    """The bundle's network in TensorRT, on this machine's GPU.

    Args:
        bundle: The bundle.
        precision: Of its graph.
        batches: The rows of the calls to come; None takes every plan that runs here.
        device: The torch device.

    Raises:
        BackendError: No GPU, no TensorRT, no plan for them, or a damaged one; the message names
            the command that fixes it.
    """
    gpu = GpuModel.current(device)
    if batches is None:
        usable = usable_plans(bundle, gpu, precision=precision)
        target = next(name for name in PACKAGES if any(e.target == name for e in usable))
        entries = {e.key: e for e in usable if e.target == target}
    else:
        chosen = (find_plan(bundle, gpu, batch, precision=precision) for batch in batches)
        entries = {e.key: e for e in chosen}
    targets = {e.target for e in entries.values()}
    if len(targets) > 1:
        raise BackendError(
            f"{bundle.path}: the plans for batches {', '.join(map(str, batches or ()))} are of "
            f"{' and '.join(sorted(targets))}; compile all of them for one target"
        )
    plans = [plan_file(bundle, entry) for entry in entries.values()]
    kernels = [read_cache("kernels", f"{plan.path.name} {gpu}") for plan in plans]
    return TrtDenoiser.load(
        plans, bundle.spec, module=targets.pop(), device=device, kernels=kernels
    )


def keep_kernels(denoiser: TrtDenoiser) -> None:
    """Keeps what TensorRT-RTX has compiled for this GPU, for the next ``open_tensorrt``.

    Call it after a first run: the first run of a plan compiles its kernels, which takes seconds.
    """
    for plan in denoiser.plans:
        kernels = plan.cached_kernels()
        if kernels:
            write_cache("kernels", f"{plan.label} {GpuModel.current(denoiser.device)}", kernels)


def plan_file(bundle: Bundle, entry: CompiledEntry) -> PlanFile:
    """An entry's plan, with its hash and the command that makes it anew."""
    assert entry.file is not None
    sha256 = str(bundle.manifest["files"][entry.file]["sha256"])
    return PlanFile(bundle.path / entry.file, entry.command(bundle.path), sha256)


def _target(gpu: GpuModel, versions: Mapping[str, str]) -> str:
    """The target to compile for on a GPU: what is installed, if it knows the GPU."""
    if "tensorrt" in versions or "tensorrt_rtx" not in versions or gpu.sm in NO_RTX_TARGET:
        return "tensorrt"
    return "tensorrt_rtx"


def _command(bundle: Bundle, target: str, precision: str, batch: int) -> str:
    return (
        f"revstep compile {bundle.path} --target {target} --precision {precision} --batch {batch}"
    )
