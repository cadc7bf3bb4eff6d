"""The backends that run a bundle: where each runs, and how it is opened there.

A new one is a file with its denoiser, a function here that opens it, and an entry in `BACKENDS`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from revstep.engine.backends.part import PartGraph
from revstep.engine.backends.protocol import Denoiser, DeviceDenoiser
from revstep.engine.backends.trt.packages import PACKAGES
from revstep.engine.bundle.entry import CPU
from revstep.engine.bundle.layout import LATENT, PICTURE
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError
from revstep.engine.message import Argument

if TYPE_CHECKING:
    import torch


class Wanted(NamedTuple):
    """What is to be opened.

    Attributes:
        bundle: The bundle; of its compiled entries only those that may be taken.
        precision: One that it holds.
        threads: On a CPU: threads inside an operator; None: as many as the process may use.
        rows: On a GPU: the rows of the calls to come; None: any.
        graph: An .onnx file to run in place of the bundle's graph: a rewritten form of it.
    """

    bundle: Bundle
    precision: str
    threads: int | None = None
    rows: Sequence[int] | None = None
    graph: Path | None = None


class WantedPart(NamedTuple):
    """A network beside the denoiser that is to be opened.

    Attributes:
        bundle: The bundle; of its compiled parts only those that may be taken.
        key: ``encoder.<name>``, ``picture_encoder`` or ``decoder``.
        precision: One that the bundle holds.
        who: What it is, for errors.
        threads: As in ``Wanted``.
    """

    bundle: Bundle
    key: str
    precision: str
    who: str
    threads: int | None = None


class OnGpu(NamedTuple):
    """A network on a GPU.

    Attributes:
        denoiser: The network.
        ranges: (smallest, largest) numbers of rows that it was built for; None: the spec's.
        keep: To be called after the first runs, which compiled something that can be kept.
    """

    denoiser: DeviceDenoiser
    ranges: tuple[tuple[int, int], ...] | None = None
    keep: Callable[[], None] | None = None


class Backend(NamedTuple):
    """Where one backend runs, and how it is opened.

    Attributes:
        title: Its name in a sentence.
        on_cpu: Opens it on a CPU; None: it runs on none.
        on_gpu: Opens it on a GPU; None: it runs on none.
        part_on_cpu: Opens a network beside the denoiser on a CPU; None: it runs none there.
        part_on_gpu: The same on a GPU.
        plans: The targets of ``revstep compile`` whose plans it needs, as ``auto`` takes them: any
            of them will do. Empty: it runs the bundle's graph.
        package: What must be installed for ``auto`` to try it on a CPU beside what comes before.
        graphs: Precisions whose products it takes from another precision's graph -> that one.
        check: Refuses, with a ``BackendError``, a precision that it never runs on a CPU; None: its
            graphs decide.
        compiles: Whether it compiles for a number of rows what is bound to them.
        target: The target of ``revstep compile`` that checks it; None: of its own name.
    """

    title: str
    on_cpu: Callable[[Wanted], Denoiser] | None = None
    on_gpu: Callable[[Wanted, torch.device], OnGpu] | None = None
    part_on_cpu: Callable[[WantedPart], PartGraph] | None = None
    part_on_gpu: Callable[[WantedPart, torch.device], PartGraph] | None = None
    plans: tuple[str, ...] = ()
    package: str = "onnxruntime"
    graphs: Mapping[str, str] = {}
    check: Callable[[str], None] | None = None
    compiles: bool = False
    target: str | None = None

    def graph_of(self, precision: str) -> str:
        """The precision of the graph that it runs in ``precision``."""
        return self.graphs.get(precision, precision)


def _check_onnxruntime(precision: str) -> None:
    if precision == "bf16":
        raise BackendError(
            "ONNX Runtime has no bf16 products on a CPU; pip install 'revstep[openvino]', whose "
            "backend takes them from the fp32 graph, or use ",
            *(Argument("precision", "fp32"), " or ", Argument("precision", "fp16")),
        )


def _onnxruntime(wanted: Wanted) -> Denoiser:
    from revstep.engine.backends.onnx_cpu import OrtDenoiser

    _check_onnxruntime(wanted.precision)
    graph = wanted.graph or wanted.bundle.graph(wanted.precision)
    return OrtDenoiser(graph, wanted.bundle.spec, threads=wanted.threads)


def _onnxruntime_part(wanted: WantedPart) -> PartGraph:
    from revstep.engine.backends.onnx_part import OrtPart

    return OrtPart(_part_graph(wanted), wanted.who, threads=wanted.threads)


def _onnxruntime_cuda_part(wanted: WantedPart, device: torch.device) -> PartGraph:
    from revstep.engine.backends.onnx_part import OrtPart

    return OrtPart(
        wanted.bundle.part_graph(wanted.key, wanted.precision), wanted.who, gpu=device.index
    )


def _part_graph(wanted: WantedPart) -> Path:
    """Of the precision; of fp32 (or what there is) where a CPU has no products of that."""
    held, precision = wanted.bundle.precisions, wanted.precision
    if precision not in held or precision == "bf16":
        precision = "fp32" if "fp32" in held else held[0]
    return wanted.bundle.part_graph(wanted.key, precision)


def _check_openvino(precision: str) -> None:
    from revstep.engine.backends.ov.library import check_precision

    check_precision(precision)


def _openvino(wanted: Wanted) -> Denoiser:
    from revstep.engine.backends.ov.denoiser import OpenVinoDenoiser

    _check_openvino(wanted.precision)
    graph = wanted.graph or wanted.bundle.graph(BACKENDS["openvino"].graph_of(wanted.precision))
    return OpenVinoDenoiser(
        graph, wanted.bundle.spec, precision=wanted.precision, threads=wanted.threads
    )


def _openvino_part(wanted: WantedPart) -> PartGraph:
    from revstep.engine.backends.ov.part import OpenVinoPart

    spec = wanted.bundle.spec
    names = {LATENT, PICTURE, *(c.name for e in spec.encoders for c in e.inputs)}
    graph, half = _part_graph(wanted), wanted.precision == "bf16"
    return OpenVinoPart(
        graph, wanted.who, frozenset(names),
        precision="bf16" if half else "fp32", threads=wanted.threads,
    )  # fmt: skip


def _onnxruntime_cuda(wanted: Wanted, device: torch.device) -> OnGpu:
    from revstep.engine.backends.onnx_cuda import OrtCudaDenoiser

    graph = wanted.bundle.graph(wanted.precision)
    return OnGpu(OrtCudaDenoiser(graph, wanted.bundle.spec, device))


def _tensorrt(wanted: Wanted, device: torch.device) -> OnGpu:
    from revstep.engine.backends.trt.choice import keep_kernels, open_tensorrt

    denoiser = open_tensorrt(
        wanted.bundle, precision=wanted.precision, batches=wanted.rows, device=device
    )
    return OnGpu(denoiser, denoiser.rows, lambda: keep_kernels(denoiser))


def _tensorrt_part(target: str, wanted: WantedPart, device: torch.device) -> PartGraph:
    from revstep.engine.backends.trt.choice import open_tensorrt_part

    return open_tensorrt_part(
        wanted.bundle, wanted.key, wanted.who,
        target=target, precision=wanted.precision, device=device,
    )  # fmt: skip


BACKENDS = {
    "onnxruntime": Backend(
        "ONNX Runtime",
        on_cpu=_onnxruntime,
        on_gpu=_onnxruntime_cuda,
        part_on_cpu=_onnxruntime_part,
        part_on_gpu=_onnxruntime_cuda_part,
        check=_check_onnxruntime,
    ),
    "openvino": Backend(
        "OpenVINO",
        on_cpu=_openvino,
        part_on_cpu=_openvino_part,
        package="openvino",
        graphs={"bf16": "fp32"},
        check=_check_openvino,
        compiles=True,
        target=CPU,
    ),
    "tensorrt": Backend(
        "tensorrt",
        on_gpu=_tensorrt,
        part_on_gpu=functools.partial(_tensorrt_part, "tensorrt"),
        plans=tuple(PACKAGES),
    ),
    "tensorrt_rtx": Backend(
        "tensorrt_rtx",
        on_gpu=_tensorrt,
        part_on_gpu=functools.partial(_tensorrt_part, "tensorrt_rtx"),
        plans=("tensorrt_rtx",),
    ),
}
"""As ``load`` names them; ``torch`` runs live modules and is no bundle's."""

NAMES = ("auto", *BACKENDS, "torch")
PREFERRED = ("tensorrt", "onnxruntime", "openvino")  # what auto tries, the best first


def candidates(bundle: Bundle, kind: str, precision: str = "fp32") -> list[str]:
    """What ``auto`` tries on a ``cpu`` or a ``cuda`` device, the best first.

    A backend that needs plans is tried where it has any part in this: the bundle has one, or the
    package that runs them is installed. On a CPU one whose package is there, first those that run
    the precision on another's graph; where none is, the first, which says so.
    """
    able = [name for name in PREFERRED if runs_on(name, kind)]
    if kind == "cpu":
        return sorted(installed_on_cpu(), key=lambda name: precision not in BACKENDS[name].graphs)
    have = {entry.target for entry in bundle.compiled}
    return [
        name
        for name in able
        if not (plans := BACKENDS[name].plans)
        or have.intersection(plans)
        or any(_installed(package) for package in plans)
    ]


def installed_on_cpu() -> list[str]:
    """What runs on a CPU and has its package here, the best first; where none has, the first."""
    able = [name for name in PREFERRED if runs_on(name, "cpu")]
    return [name for name in able if _installed(BACKENDS[name].package)] or able[:1]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def runs_on(name: str, kind: str) -> bool:
    """Whether a backend runs on a ``cpu``, or on a ``cuda`` device."""
    backend = BACKENDS[name]
    return (backend.on_cpu if kind == "cpu" else backend.on_gpu) is not None


def check_runs_on(name: str, device: str) -> None:
    """Refuses a device, as ``load`` takes it, that a backend doesn't run on.

    Raises:
        BackendError: It doesn't.
    """
    if device == "cpu" and not runs_on(name, "cpu"):
        raise BackendError(
            f"{name!r} runs on NVIDIA GPUs only; use ",
            *(Argument("device", "cuda"), ", or on a CPU ", Argument("backend", "onnxruntime")),
        )
    if device.startswith("cuda") and not runs_on(name, "cuda"):
        raise BackendError(
            f"{name!r} runs on CPUs only; use ",
            *(Argument("device", "cpu"), ", or on a GPU ", Argument("backend", "onnxruntime")),
        )
