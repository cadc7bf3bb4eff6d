"""``load``: from a bundle on disk to an ``Engine``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.backends.registry import (
    BACKENDS,
    NAMES,
    Wanted,
    candidates,
    check_runs_on,
    runs_on,
)
from revstep.engine.backends.trt.packages import PACKAGES
from revstep.engine.bundle.entry import CPU
from revstep.engine.bundle.layout import part_keys
from revstep.engine.bundle.manifest import read_manifest
from revstep.engine.bundle.reader import Bundle
from revstep.engine.checks import check_one_of, check_whole
from revstep.engine.devices.choose import check_device, cuda_device, driver_gpus
from revstep.engine.errors import BackendError, BundleError
from revstep.engine.log import log
from revstep.engine.open.checked import warn_unless_checked
from revstep.engine.open.cuda_options import CudaKeywords, CudaOptions, cuda_options
from revstep.engine.runtime.buckets import fixed_rows, make_buckets
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.meanwhile import to_do

if TYPE_CHECKING:
    import torch

    from revstep.engine.engine import Engine
    from revstep.engine.runtime.runtime import Runtime


DEVICES = ("auto", "cpu", "cuda", "cuda:<i>")


class _Options(NamedTuple):
    """What ``load`` was asked for, and the bundle; ``asked`` is its own ``precision``."""

    bundle: Bundle
    precision: str
    asked: str | None
    threads: int | None
    buckets: Sequence[int] | None
    reproducible: bool
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
    keep_encodings: int = 0,
    cuda: CudaOptions | None = None,
    **older: Unpack[CudaKeywords],
) -> Engine:
    """An engine that samples the bundle at ``path``.

    ``auto`` takes the best that works here: on a GPU TensorRT, then ONNX Runtime's CUDA provider;
    on a CPU what ``revstep compile --target cpu`` chose on this processor, with the versions that
    are installed, else ONNX Runtime, or OpenVINO where that alone is installed. A backend that is
    named runs the graph as it was exported. Warnings say what is passed over; ``Engine.describe``
    reports what runs. A copy of the engine, by ``copy`` or ``pickle``, is this call again: a worker
    process, such as multiprocessing's, a DataLoader's or Ray's, loads the bundle for itself, by its
    absolute path.

    Args:
        path: A ``.revstep`` directory.
        backend: ``onnxruntime``, ``openvino``, ``tensorrt``, ``tensorrt_rtx``, or ``auto``.
            (``torch`` runs live modules: ``from_module``.)
        device: ``cpu``, ``cuda``, ``cuda:<i>``, or ``auto``.
        precision: ``fp32``, ``fp16``, ...: one that the bundle holds; None prefers fp32. In
            OpenVINO fp32, or bf16, which needs the fp32 graph and a processor with bf16. Of what
            was chosen for a CPU those choices alone; None: for each number of rows the best, which
            is bf16 where that was asked for at compile and won.
        verify: Compare every file's sha256 with the manifest's.
        reproducible: A sample's bits never depend on its batch: every network call is padded to
            one fixed number of rows.
        threads: On a CPU: threads inside a network operator; None: as many as were chosen, or one
            per core that the process may use, by its affinity mask and its cgroup's quota.
        buckets: Network rows that are prepared, to which calls are padded; None: on CUDA powers of
            two in the bundle's batch range, or what its TensorRT plans were built for; on a CPU no
            call is padded.
        keep_encodings: How many results of the bundle's encoders are kept by the content of their
            inputs, such as prompts that come again; the oldest are given up.
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
    check_one_of(backend, "backend", NAMES)
    check_device(device)
    if cuda.tf32:
        raise ValueError("tf32 is of from_module: a bundle's products are as its graph has them")
    if backend == "torch":
        raise BackendError(
            "the 'torch' backend runs a live module, and a bundle holds none: use "
            "revstep.from_module(module, spec), or another backend"
        )
    if backend != "auto":
        check_runs_on(backend, device)
    bundle = Bundle.open(path, verify=verify)
    chosen = precision or ("fp32" if "fp32" in bundle.precisions else bundle.precisions[0])
    if not (chosen == "bf16" and _has_winners(bundle, chosen)):  # which run the fp32 graph
        named = BACKENDS.get(backend)
        cpu_only = named is not None and named.on_gpu is None
        on_cpu = cpu_only or device == "cpu" or (device == "auto" and not driver_gpus())
        if named is None and on_cpu:
            named = BACKENDS[candidates(bundle, "cpu", chosen)[0]]
        if named and named.check and on_cpu:
            named.check(chosen)
        bundle.graph(named.graph_of(chosen) if named else chosen)
    if chosen != "fp32" and bundle.spec.prediction == "mean":
        log.warning(
            "%s predicts 'mean', which at noisy times is multiplied by thousands to give x0: "
            "%s outputs are too coarse for that; prefer precision='fp32'",
            path, chosen,
        )  # fmt: skip
    options = _Options(bundle, chosen, precision, threads, buckets, reproducible, cuda)
    with to_do(partial(_get_ready, bundle.spec)):
        used, runtime, where = _first_that_works(options, backend, device)
    checked = used == CPU or warn_unless_checked(bundle, used, chosen)
    if used == CPU:
        chosen = runtime.describe()["precision"]
    beside: dict[str, Any] = {}
    ran: dict[str, Any] = {}
    if part_keys(bundle.spec):
        from revstep.engine.open.parts import Parts

        parts = Parts(
            bundle, used, chosen, threads, where, reproducible, asked=precision, checked=checked
        )
        beside = {
            "decoder": parts.decoder(),
            "encoders": parts.encoders(keep=keep_encodings),
            "picture_encoder": parts.picture_encoder(),
        }
        ran = {"parts": parts.describe()} if parts.opened else {}
    from revstep.engine.engine import Engine

    return Engine(
        runtime,
        **beside,
        reproducible=reproducible,
        details={"bundle": str(path), "precision": chosen, "checked": checked, **ran},
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
                "keep_encodings": keep_encodings,
                "cuda": cuda,
            },
        ),
    )


@dataclasses.dataclass(frozen=True)
class LoadCall:
    """A call of ``load``, to be repeated by a copy of its engine, here or in another process.

    Attributes:
        path: The bundle, absolute.
        digest: Of its manifest, and so of all its files.
        options: The other arguments.
    """

    path: Path
    digest: str
    options: dict[str, Any]

    def __call__(self) -> Engine:
        """The engine.

        Raises:
            BundleError: The bundle isn't there, or another one is.
            BackendError, DeviceMemoryError: As ``load``, on the machine where this runs.
        """
        found = read_manifest(self.path)["digest"]
        if found != self.digest:
            raise BundleError(
                f"{self.path} was changed since the engine was loaded of which this is a copy (its "
                f"digest is {found[:12]}..., it was {self.digest[:12]}...): load() it again, and "
                "copy or send that engine"
            )
        options = dict(self.options)  # in a pickle of an earlier version with those for GPUs
        older = {
            name: options.pop(name) for name in CudaKeywords.__annotations__ if name in options
        }
        if older:
            options["cuda"] = CudaOptions(**older)
        return load(self.path, **options)


def _get_ready(spec: DenoiserSpec) -> None:
    """Imports what a run takes beside its network, which a runtime may still be reading."""
    import_module("revstep.engine.engine")
    from revstep.engine.program.samplers import resolve_sampler
    from revstep.kernels import backend

    backend()
    resolve_sampler(spec.default_sampler)


def _has_winners(bundle: Bundle, precision: str | None = None) -> bool:
    """Whether ``revstep compile --target cpu`` chose anything; None: in any precision."""
    return any(e.target == CPU and precision in (None, e.precision) for e in bundle.compiled)


def _first_that_works(
    options: _Options, backend: str, device: str
) -> tuple[str, Runtime, torch.device | None]:
    """(backend, runtime, GPU or None) of the first candidate that runs here."""
    bundle, named = options.bundle, backend != "auto"
    name = backend if named else candidates(bundle, "cpu", options.precision)[0]
    on_gpu = device.startswith("cuda") or (named and not runs_on(backend, "cpu"))
    on_cpu = device == "cpu" or (named and not runs_on(backend, "cuda"))
    if on_cpu or not (on_gpu or driver_gpus()):
        if backend == device == "auto" and any(e.target in PACKAGES for e in bundle.compiled):
            log.warning(
                "%s runs on the CPU, in %s: no NVIDIA GPU or driver was found for its TensorRT "
                "plans (device='cpu' says that this is wanted)", bundle.path, name,
            )  # fmt: skip
        return *_cpu_runtime(options, name, exactly=named), None
    try:
        where = cuda_device("cuda" if device == "auto" else device)
    except BackendError as error:
        if on_gpu:
            raise
        log.warning("CUDA is passed over: %s; %s runs on the CPU, in %s", error, bundle.path, name)
        return *_cpu_runtime(options, name, exactly=named), None
    tried = [backend] if named else candidates(bundle, "cuda")
    failures = []
    for each in tried:
        try:
            runtime = _gpu_runtime(options, each, where, exactly=named)
            return runtime.describe().get("library", each), runtime, where
        except BackendError as error:
            if len(tried) == 1 and on_gpu:
                raise
            failures.append(f"{each} on CUDA: {error}")
            log.warning("%s is passed over on CUDA: %s", each, error)
    if on_gpu:
        raise BackendError(f"nothing runs {bundle.path} on CUDA: {'; '.join(failures)}")
    log.warning("%s runs on the CPU, in %s", bundle.path, name)
    return *_cpu_runtime(options, name, exactly=named), None


def _cpu_runtime(options: _Options, name: str, *, exactly: bool) -> tuple[str, Runtime]:
    """(``cpu``, what was chosen for this processor), or (the backend, the graph as it is)."""
    if options.cuda.unroll:
        raise ValueError("unroll needs a GPU; on a CPU every step is called")
    if options.cuda.kernels != "auto":
        raise ValueError("kernels= needs a GPU; on a CPU the native kernels run")
    if options.threads is not None:
        check_whole(options.threads, "threads", 1)
    if not exactly and _has_winners(options.bundle):
        from revstep.engine.open.winners import open_winners

        chosen = open_winners(options.bundle, options.asked, options.threads)
        try:
            if chosen is not None:
                return CPU, _host_runtime(options, chosen, chosen.rows)
        except BackendError as error:
            log.warning("what was chosen for a CPU is passed over, as it can't run: %s", error)
    opened = BACKENDS[name].on_cpu
    assert opened is not None
    denoiser = opened(Wanted(options.bundle, options.precision, threads=options.threads))
    prepared = (options.buckets or ()) if BACKENDS[name].compiles else None
    return name, _host_runtime(options, denoiser, prepared)


def _host_runtime(options: _Options, denoiser: Denoiser, prepared: Sequence[int] | None) -> Runtime:
    """The runtime, with the rows bound that are known; None: binding takes no time."""
    from revstep.engine.runtime.runtime import host_runtime

    if prepared is None:
        return host_runtime(denoiser, buckets=options.buckets)
    low, high = denoiser.spec.batch
    if options.buckets is not None:
        prepared, high = options.buckets, make_buckets((low, high), options.buckets)[-1]
    if options.reproducible:
        prepared = (fixed_rows((low, high)),)
    return host_runtime(denoiser, buckets=options.buckets, prepare=prepared)


def _gpu_runtime(options: _Options, name: str, where: torch.device, *, exactly: bool) -> Runtime:
    from revstep.engine.bundle.kernels import choose_kernels
    from revstep.engine.devices.cuda import memory_named
    from revstep.engine.runtime.runtime import cuda_runtime

    bundle, buckets = options.bundle, options.buckets
    folder = choose_kernels(bundle, options.cuda.kernels)
    opened = BACKENDS[name].on_gpu
    assert opened is not None
    targets = (name,) if exactly else (name, *BACKENDS[name].plans)
    only = tuple(entry for entry in bundle.compiled if entry.target in targets)
    narrowed = dataclasses.replace(bundle, compiled=only)
    fix = "use a lower precision, or a GPU with more memory"
    with memory_named(where, f"loading the network in {name}", fix):
        network = opened(Wanted(narrowed, options.precision, rows=buckets), where)
    if buckets is None and network.ranges is not None:  # steps through the ranges
        buckets = sorted({b for rows in network.ranges for b in make_buckets(rows)})
    runtime = cuda_runtime(
        network.denoiser,
        buckets=buckets,
        graphs=options.cuda.graphs,
        unroll=options.cuda.unroll,
        kernels="triton" if folder is None else "aot",
        kernels_folder=folder,
        max_program_rows=options.cuda.max_program_rows,
        warm_up=options.cuda.warm_up,
    )
    if options.cuda.warm_up and network.keep is not None:
        network.keep()
    return runtime
