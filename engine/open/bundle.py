"""``load``: from a bundle on disk to an ``Engine``."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.bundle.kernels import choose_kernels
from revstep.engine.bundle.reader import Bundle
from revstep.engine.devices.choose import check_device, cuda_device, driver_gpus
from revstep.engine.devices.gpu_memory import memory_named
from revstep.engine.engine import Engine
from revstep.engine.errors import BackendError
from revstep.engine.nearest import unknown
from revstep.engine.open.call import LoadCall
from revstep.engine.open.cuda_options import CudaKeywords, CudaOptions, cuda_options
from revstep.engine.parts.decoder import LatentDecoder
from revstep.engine.runtime.runtime import Runtime, cuda_runtime, host_runtime

if TYPE_CHECKING:
    import torch

    from revstep.engine.backends.protocol import DeviceDenoiser

__all__ = ["load"]

BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch")
DEVICES = ("auto", "cpu", "cuda", "cuda:<i>")
TENSORRT = ("tensorrt", "tensorrt_rtx")

log = logging.getLogger("revstep")


@dataclasses.dataclass(frozen=True)
class _Options:
    """What ``load`` was asked for, and the bundle."""

    bundle: Bundle
    precision: str
    threads: int | None
    buckets: Sequence[int] | None
    cuda: CudaOptions


def load(
    path: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str | None = None,
    verify: bool = True,
    reproducible: bool = False,
    threads: int | None = None,
    buckets: Sequence[int] | None = None,
    cuda: CudaOptions | None = None,
    **older: Unpack[CudaKeywords],
) -> Engine:
    """An engine that samples the bundle at ``path``.

    ``auto`` takes the best that works here: on a GPU TensorRT, then ONNX Runtime's CUDA provider;
    else ONNX Runtime on the CPU. What it passes over is said in a warning; ``Engine.describe``
    tells what runs. A copy of the engine, by ``copy`` or ``pickle``, is this call again: a worker
    process, such as multiprocessing's, a DataLoader's or Ray's, loads the bundle for itself, by
    its absolute path.

    Args:
        path: A ``.revstep`` directory.
        backend: ``onnxruntime``, ``tensorrt``, ``tensorrt_rtx``, or ``auto``. (``torch`` runs live
            modules: ``from_module``.)
        device: ``cpu``, ``cuda``, ``cuda:<i>``, or ``auto``.
        precision: ``fp32``, ``fp16``, ...: one that the bundle holds; None prefers fp32.
        verify: Compare every file's sha256 with the manifest's.
        reproducible: A sample's bits never depend on its batch: every network call is padded to
            one fixed number of rows.
        threads: On a CPU: threads inside a network operator; None: one a core that the process may
            use, by its affinity mask and its cgroup's quota.
        buckets: On CUDA: the network rows that are prepared; None: powers of two in the bundle's
            batch range, or what its TensorRT engines were built for.
        cuda: How it runs on a GPU; None: ``CudaOptions()``.
        **older: The options of ``CudaOptions``, which were arguments once; deprecated.

    Raises:
        BundleError: The bundle is damaged, of another version, or lacks the precision.
        BackendError: The backend or the device is missing, or can't run the bundle.
        DeviceMemoryError: The GPU's memory is short.
        TypeError: An unknown argument, or an option of a wrong type.
        ValueError: An unknown backend or device, or an option out of range.
    """
    cuda = cuda_options(load, cuda, older)
    if backend not in BACKENDS:
        raise ValueError(unknown("backend", backend, BACKENDS))
    check_device(device)
    if cuda.tf32:
        raise ValueError("tf32 is of from_module: a bundle's products are as its graph has them")
    if backend == "torch":
        raise BackendError(
            "the 'torch' backend runs a live module, and a bundle holds none: use "
            "revstep.from_module(module, spec), or another backend"
        )
    if backend in TENSORRT and device == "cpu":
        raise BackendError(
            f"{backend!r} runs on NVIDIA GPUs only; use device='cuda', or on a CPU "
            "backend='onnxruntime'"
        )
    bundle = Bundle.open(path, verify=verify)
    chosen = precision or ("fp32" if "fp32" in bundle.precisions else bundle.precisions[0])
    bundle.graph(chosen)
    if chosen != "fp32" and bundle.spec.prediction == "mean":
        log.warning(
            "%s predicts 'mean', which at noisy times is multiplied by thousands to give x0: "
            "%s outputs are too coarse for that; prefer precision='fp32'",
            path, chosen,
        )  # fmt: skip
    options = _Options(bundle, chosen, threads, buckets, cuda)
    used, runtime, where = _first_that_works(options, backend, device)
    checked = _warn_unless_checked(bundle, used, chosen)
    return Engine(
        runtime,
        decoder=_decoder(bundle, threads, where),
        reproducible=reproducible,
        details={"bundle": str(path), "precision": chosen, "checked": checked},
        again=LoadCall(
            Path(path).absolute(),
            bundle.manifest["digest"],
            {
                "backend": backend,
                "device": device,
                "precision": precision,
                "verify": verify,
                "reproducible": reproducible,
                "threads": threads,
                "buckets": buckets,
                "cuda": cuda,
            },
        ),
    )


def _first_that_works(
    options: _Options, backend: str, device: str
) -> tuple[str, Runtime, torch.device | None]:
    """(backend, runtime, GPU or None) of the first candidate that runs here."""
    on_gpu = device.startswith("cuda") or backend in TENSORRT
    bundle = options.bundle
    if not on_gpu and (device == "cpu" or not driver_gpus()):
        if backend == device == "auto" and any(e.target in TENSORRT for e in bundle.compiled):
            log.warning(
                "%s runs on the CPU, in onnxruntime: no NVIDIA GPU or driver was found for its "
                "TensorRT engines (device='cpu' says that this is wanted)", bundle.path,
            )  # fmt: skip
        return "onnxruntime", _cpu_runtime(options), None
    try:
        where = cuda_device("cuda" if device == "auto" else device)
    except BackendError as error:
        if on_gpu:
            raise
        log.warning("CUDA is passed over: %s; %s runs on the CPU, in onnxruntime",
                    error, bundle.path)  # fmt: skip
        return "onnxruntime", _cpu_runtime(options), None
    candidates = [backend] if backend != "auto" else _gpu_candidates(bundle)
    failures = []
    for name in candidates:
        try:
            runtime = _gpu_runtime(options, name, where, exactly=backend != "auto")
            return runtime.describe().get("library", name), runtime, where
        except BackendError as error:
            if len(candidates) == 1 and on_gpu:
                raise
            failures.append(f"{name} on CUDA: {error}")
            log.warning("%s is passed over on CUDA: %s", name, error)
    if on_gpu:
        raise BackendError(f"nothing runs {bundle.path} on CUDA: {'; '.join(failures)}")
    log.warning("%s runs on the CPU, in onnxruntime", bundle.path)
    return "onnxruntime", _cpu_runtime(options), None


def _gpu_candidates(bundle: Bundle) -> list[str]:
    """Backends in the order of preference; TensorRT where it has any part in this."""
    planned = any(entry.target in TENSORRT for entry in bundle.compiled)
    here = any(importlib.util.find_spec(name) is not None for name in TENSORRT)
    return ["tensorrt", "onnxruntime"] if planned or here else ["onnxruntime"]


def _cpu_runtime(options: _Options) -> Runtime:
    if options.precision == "bf16":
        raise BackendError(
            "ONNX Runtime has no bf16 products on a CPU; use precision='fp32' or precision='fp16'"
        )
    if options.cuda.unroll:
        raise ValueError("unroll needs a GPU; on a CPU every step is called")
    if options.cuda.kernels != "auto":
        raise ValueError("kernels= needs a GPU; on a CPU the native kernels run")
    bundle = options.bundle
    graph = bundle.graph(options.precision)
    denoiser = OrtDenoiser(graph, bundle.spec, threads=options.threads)
    return host_runtime(denoiser, buckets=options.buckets)


def _gpu_runtime(options: _Options, name: str, where: torch.device, *, exactly: bool) -> Runtime:
    bundle, buckets = options.bundle, options.buckets
    folder = choose_kernels(bundle, options.cuda.kernels)
    mend = "use a lower precision, or a GPU with more memory"
    with memory_named(where, f"loading the network in {name}", mend):
        if name not in TENSORRT:
            from revstep.engine.backends.onnx_cuda import OrtCudaDenoiser

            denoiser: DeviceDenoiser = OrtCudaDenoiser(
                bundle.graph(options.precision), bundle.spec, where
            )
            return _cuda_runtime(options, denoiser, buckets, folder)
    only = [e for e in bundle.compiled if e.target == name or not exactly]
    narrowed = dataclasses.replace(bundle, compiled=tuple(only))
    return _tensorrt_runtime(dataclasses.replace(options, bundle=narrowed), where, folder)


def _tensorrt_runtime(options: _Options, where: torch.device, folder: Path | None) -> Runtime:
    from revstep.engine.backends.trt.choice import keep_kernels, open_tensorrt
    from revstep.engine.runtime.buckets import make_buckets

    bundle, buckets = options.bundle, options.buckets
    denoiser = open_tensorrt(bundle, precision=options.precision, batches=buckets, device=where)
    if buckets is None:  # every static engine's batch, and steps through the dynamic ones' ranges
        buckets = sorted({b for rows in denoiser.rows for b in make_buckets(rows)})
    runtime = _cuda_runtime(options, denoiser, buckets, folder)
    if options.cuda.warm_up:
        keep_kernels(denoiser)
    return runtime


def _cuda_runtime(
    options: _Options, denoiser: DeviceDenoiser, buckets: Sequence[int] | None, folder: Path | None
) -> Runtime:
    return cuda_runtime(
        denoiser,
        buckets=buckets,
        graphs=options.cuda.graphs,
        unroll=options.cuda.unroll,
        kernels="triton" if folder is None else "aot",
        kernels_folder=folder,
        max_program_rows=options.cuda.max_program_rows,
        warm_up=options.cuda.warm_up,
    )


def _warn_unless_checked(bundle: Bundle, backend: str, precision: str) -> bool:
    """Whether compile has checked this backend and precision against PyTorch."""
    entries = [e for e in bundle.compiled if e.target == backend and e.precision == precision]
    if any(isinstance(entry.parity, dict) for entry in entries):
        return True
    command = f"revstep compile {bundle.path} --target {backend} --precision {precision}"
    log.warning(
        "%s (%s) has not been checked against PyTorch on %s; run: %s",
        bundle.path, precision, "ONNX Runtime" if backend == "onnxruntime" else backend,
        entries[0].command(bundle.path) if entries else command,
    )  # fmt: skip
    return False


def _decoder(
    bundle: Bundle, threads: int | None, where: torch.device | None
) -> LatentDecoder | None:
    graph, spec = bundle.decoder(), bundle.spec.decoder
    if graph is None or spec is None:
        return None
    if where is not None:
        try:
            return LatentDecoder(graph, spec, gpu=where.index)
        except BackendError as error:
            log.warning("the latent decoder runs on the CPU: %s", error)
    return LatentDecoder(graph, spec, threads=threads)
