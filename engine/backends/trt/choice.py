"""Which of a bundle's TensorRT plans runs here: chosen, or named by the command that makes one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from revstep.engine.backends.trt.denoiser import TrtDenoiser
from revstep.engine.backends.trt.library import trt_library
from revstep.engine.backends.trt.packages import PACKAGES
from revstep.engine.backends.trt.part import TrtPart
from revstep.engine.backends.trt.plan import PlanFile, open_plan, rows_text
from revstep.engine.bundle.entry import CompiledEntry, maker
from revstep.engine.bundle.layout import part_precision
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
    part: str | None = None,
    command: str = "",
) -> list[CompiledEntry]:
    """The bundle's plans of a precision that run on this GPU with the installed TensorRT.

    Args:
        bundle: The bundle.
        gpu: The GPU that will run them.
        precision: Of the graph.
        batch: The rows for which the command of a message makes a plan.
        versions: Installed packages and versions; None looks.
        part: The network beside the denoiser that they are of; None: the denoiser.
        command: The command of a message, in place of one for ``batch`` rows.

    Raises:
        BackendError: There is none: none of that precision, for another GPU, or of another
            version; the message names the command that makes one.
    """
    versions = installed_versions() if versions is None else versions
    target = _target(gpu, versions)
    fix = f"on this machine run: {command or _command(bundle, target, precision, batch)}"
    whose = bundle.path if part is None else f"{bundle.path}'s {part}"
    entries = bundle.compiled if part is None else bundle.compiled_parts
    plans = [e for e in entries if e.target in PACKAGES and e.file is not None and e.part == part]
    found = [e for e in plans if e.precision == precision]
    if not found:
        have = ", ".join(sorted({e.precision for e in plans}))
        other = f" (it has {have})" if have else ""
        raise BackendError(f"{whose} has no TensorRT plan of {precision}{other} for {gpu}; {fix}")
    here = [e for e in found if gpu.runs(e)]
    if not here:
        devices = ", ".join(sorted({e.device for e in found}))
        raise BackendError(
            f"{whose}: its TensorRT plans ({precision}) are for {devices}; this GPU is {gpu}; {fix}"
        )
    usable = [e for e in here if versions.get(e.target) == e.version]
    if not usable:
        built = ", ".join(sorted({f"{e.target} {e.version}" for e in here}))
        have = ", ".join(f"{k} {v}" for k, v in versions.items()) or "no TensorRT at all"
        install = "" if versions else f"pip install 'revstep[{PACKAGES[target]}]', or "
        raise BackendError(
            f"{whose}: its plans for {gpu} were built by {built}; installed is {have}, and "
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
    kernels = [read_cache("kernels", _kernels_of(plan.path.name, gpu)) for plan in plans]
    return TrtDenoiser.load(
        plans, bundle.spec, module=targets.pop(), device=device, kernels=kernels
    )


def open_tensorrt_part(
    bundle: Bundle,
    key: str,
    who: str,
    *,
    target: str,
    precision: str = "fp32",
    device: str | torch.device = "cuda",
) -> TrtPart:
    """A network beside the denoiser in TensorRT, on this machine's GPU.

    Args:
        bundle: The bundle.
        key: The network's.
        who: What it is, for errors.
        target: ``tensorrt`` or ``tensorrt_rtx``: what runs the denoiser.
        precision: The denoiser's.
        device: The torch device.

    Raises:
        BackendError: As for ``open_tensorrt``.
    """
    gpu = GpuModel.current(device)
    own, parts = (
        tuple(e for e in entries if e.target == target)
        for entries in (bundle.compiled, bundle.compiled_parts)
    )
    made = [e for e in own if e.file and e.precision == precision and gpu.runs(e)]
    widest = max(made, key=lambda e: e.batch[1], default=None)  # its compile makes this one too
    command = "" if widest is None else widest.command(bundle.path)
    usable = usable_plans(
        dataclasses.replace(bundle, compiled_parts=parts), gpu,
        precision=part_precision(key, precision), part=key,
        command=command or _command(bundle, target, precision, 1),
    )  # fmt: skip
    entry = max(usable, key=lambda e: e.batch[1])
    file = plan_file(bundle, entry)
    kernels = read_cache("kernels", _kernels_of(file.path.name, gpu))
    part = TrtPart(open_plan(file, trt_library(target), device, kernels), who, device=device)
    keep_kernels(part)
    return part


def keep_kernels(network: TrtDenoiser | TrtPart) -> None:
    """Keeps what TensorRT-RTX has compiled for this GPU, for the next ``open_tensorrt``.

    Call it after a first run: the first run of a plan compiles its kernels, which takes seconds.
    """
    for plan in network.plans:
        kernels = plan.cached_kernels()
        if kernels:
            write_cache(
                "kernels", _kernels_of(plan.label, GpuModel.current(network.device)), kernels
            )


def plan_file(bundle: Bundle, entry: CompiledEntry) -> PlanFile:
    """An entry's plan, with its hash and the command that makes it anew."""
    assert entry.file is not None
    sha256 = str(bundle.manifest["files"][entry.file]["sha256"])
    made_by = maker(entry, (*bundle.compiled, *bundle.compiled_parts))
    return PlanFile(bundle.path / entry.file, made_by.command(bundle.path), sha256)


def _kernels_of(plan: str, gpu: GpuModel) -> str:
    """What a plan's compiled kernels are called in the cache."""
    return f"{plan} {gpu}"


def _target(gpu: GpuModel, versions: Mapping[str, str]) -> str:
    """The target to compile for on a GPU: what is installed, if it knows the GPU."""
    if "tensorrt" in versions or "tensorrt_rtx" not in versions or gpu.sm in NO_RTX_TARGET:
        return "tensorrt"
    return "tensorrt_rtx"


def _command(bundle: Bundle, target: str, precision: str, batch: int) -> str:
    return (
        f"revstep compile {bundle.path} --target {target} --precision {precision} --batch {batch}"
    )
