"""The ``onnxruntime`` backend: sessions, and an exported graph on the CPU, bound to its buffers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from revstep.engine.backends.protocol import NetworkBuffers, index_hint
from revstep.engine.backends.signature import Port, check_signature
from revstep.engine.checks import check_whole
from revstep.engine.errors import BackendError
from revstep.engine.message import Argument
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.cores import usable_threads
from revstep.engine.system.forks import keep_for_ever, renew_in_children
from revstep.engine.system.meanwhile import meanwhile

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(bool)": np.dtype(np.bool_),
}


def onnx_session(
    graph: Path,
    *,
    threads: int | None = None,
    gpu: int | None = None,
    gpu_options: Mapping[str, str] | None = None,
    all_on_gpu: bool = False,
    in_order: bool = False,
    who: str = "the 'onnxruntime' backend",
) -> Any:
    """An ONNX Runtime session.

    Args:
        graph: The .onnx file.
        threads: Threads inside an operator; None: as many as the process may use.
        gpu: Number of the GPU; None: the CPU.
        gpu_options: Further options of the CUDA provider.
        all_on_gpu: Refuse a graph of which operators would run on the CPU.
        in_order: Run each node as soon as its place in the file allows. By itself ONNX Runtime runs
            what the first output needs, then the rest, and keeps what that reads.
        who: Who needs it, as an error says.

    Raises:
        BackendError: ONNX Runtime is missing, refuses the graph, or would not run it where asked.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise BackendError(
            f"{who} needs ONNX Runtime, which is not installed; "
            f"pip install 'revstep[{'cpu' if gpu is None else 'cuda'}]'"
        ) from error
    options = ort.SessionOptions()
    options.log_severity_level = 4 if gpu is None else 3  # what fails on a CPU is raised, too
    if in_order:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    # ONNX Runtime's own choice counts the machine's cores, not the process's
    options.intra_op_num_threads = threads or usable_threads()
    wanted = CPU
    providers: list[Any] = [CPU]
    if gpu is not None:
        if CUDA not in ort.get_available_providers():
            raise BackendError(
                f"this ONNX Runtime {ort.__version__} is built without CUDA; install the GPU "
                "build in its place (pip uninstall onnxruntime; pip install 'revstep[cuda]'), "
                "or use ",
                Argument("device", "cpu"),
            )
        # its own CUDA graphs would nest in ours; TF32 rounds float32 products
        own = {"device_id": str(gpu), "enable_cuda_graph": "0", "use_tf32": "0"}
        wanted, providers = CUDA, [(CUDA, {**own, **(gpu_options or {})})]
        if all_on_gpu:  # which ONNX Runtime refuses beside a CPU provider that is named
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        else:
            providers.append(CPU)
    off: dict[str, Any] = {}
    if gpu is None and ".fp16." in graph.name:
        # a fusion that ONNX Runtime 1.32 does not survive on some half graphs
        off = {"disabled_optimizers": ["MatmulTransposeFusion"]}
    try:
        with meanwhile():
            session = ort.InferenceSession(str(graph), options, providers=providers, **off)
    except Exception as error:  # ONNX Runtime's own error classes share no base of their own
        raise BackendError(f"ONNX Runtime {ort.__version__} can't load {graph}: {error}") from error
    if session.get_providers()[0] != wanted:  # it falls back without a word
        fix = ""
        if gpu is not None:
            fix = (
                "; its CUDA provider could not be loaded: it needs the CUDA and cuDNN versions "
                "that it was built for (pip install 'onnxruntime-gpu[cuda,cudnn]')"
            )
        raise BackendError(
            f"ONNX Runtime {ort.__version__} chose {session.get_providers()[0]} instead of "
            f"{wanted}{fix}"
        )
    return session


class CpuSession:
    """Lends the session to one call: ``with shared as session``. Thread-safe.

    A session's worker threads don't live on in a forked child, and a lock of the session that
    another thread held at the fork stays held: the child opens the graph anew then, at its first
    call. A session of one thread that nobody used at the fork goes on, its weights shared.

    Args:
        graph: The .onnx file.
        threads: Threads inside an operator; None: as many as the process may use.
        **options: Further ones of ``onnx_session``.

    Attributes:
        threads: The number.
        session: The session, or None where a fork took it.
        inside: Who is in a call: threads, and bound calls.

    Raises:
        BackendError: As ``onnx_session``.
    """

    def __init__(self, graph: Path, *, threads: int | None = None, **options: Any) -> None:
        self.threads = threads or usable_threads()
        self._options = options
        self._graph = graph
        self._file = _identity(graph)
        self._lock = threading.Lock()
        self.inside: set[object] = set()
        self.session: Any = onnx_session(graph, threads=self.threads, **options)
        renew_in_children(self)

    def __enter__(self) -> Any:
        self.inside.add(threading.get_ident())
        return self.current()

    def __exit__(self, *_: object) -> None:
        self.inside.discard(threading.get_ident())

    def current(self) -> Any:
        """The session, opened again where a fork took it."""
        with self._lock:
            if self.session is None:
                if _identity(self._graph) != self._file:
                    raise BackendError(
                        f"{self._graph} was changed since it was loaded, and this forked child has "
                        "to open it again: load the engine in the child"
                    )
                self.session = onnx_session(self._graph, threads=self.threads, **self._options)
            return self.session

    def after_fork(self) -> None:
        """Keeps an inherited session from being destroyed, or used where it may wait for ever."""
        self._lock = threading.Lock()
        others = self.inside - {threading.get_ident()}
        self.inside.clear()
        if self.session is None:
            return
        if self.threads > 1:
            # onnxruntime 1.32 ends its workers when the session goes: a child that exits hangs or
            # crashes there, as they are not among its threads
            keep_for_ever(self.session)
        if others or self.threads > 1:
            self.session = None


def _identity(file: Path) -> tuple[int, ...] | None:
    """What distinguishes a file from one that was put in its place; None where there is none."""
    with contextlib.suppress(OSError):
        found = file.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None


class OrtDenoiser:
    """A denoiser graph in ONNX Runtime, on the CPU.

    Args:
        graph: The .onnx file of a bundle.
        spec: Its spec; the graph's inputs must be the spec's.
        threads: Threads inside an operator; None: as many as the process may use.

    Attributes:
        threads: The number.

    Raises:
        BackendError: As ``onnx_session``, or the graph does not fit the spec.
    """

    def __init__(self, graph: Path, spec: DenoiserSpec, *, threads: int | None = None) -> None:
        if threads is not None:
            check_whole(threads, "threads", 1)
        self.spec = spec
        self._session = CpuSession(graph, threads=threads)
        self.threads = self._session.threads
        with self._session as session:
            self._output = check_inputs(session, graph, spec)

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """Binds the buffers once; the call runs the session on them."""
        shared = self._session
        with shared as session:
            run, values = _bound(session, self._binding(session, buffers))
        me = object()  # a lane is one thread's at a time
        enter, leave = shared.inside.add, shared.inside.discard

        def call() -> None:
            nonlocal session, run, values
            enter(me)  # ``with shared`` in line: it runs every step
            try:
                if shared.session is not session:  # a fork took it
                    opened = shared.current()
                    session = opened
                    run, values = _bound(opened, self._binding(opened, buffers))
                run(values, None)
            except BackendError:
                raise
            except Exception as error:  # ONNX Runtime's own error classes share no base
                raise BackendError(
                    f"ONNX Runtime failed: {error}{index_hint(self.spec)}"
                ) from error
            finally:
                leave(me)

        return call

    def _binding(self, session: Any, buffers: NetworkBuffers) -> Any:
        binding = session.io_binding()
        for name, array in buffers.inputs(self.spec).items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        out = buffers.out
        binding.bind_output(self._output, "cpu", 0, out.dtype, out.shape, out.ctypes.data)
        return binding

    def describe(self) -> dict[str, Any]:
        """Backend, version, device, provider and threads."""
        import onnxruntime as ort

        with self._session as session:
            provider = session.get_providers()[0]
        return {
            "backend": "onnxruntime",
            "version": ort.__version__,
            "device": "cpu",
            "provider": provider,
            "threads": self.threads,
        }


def _bound(session: Any, binding: Any) -> tuple[Callable[[Any, None], object], Any]:
    """What runs a session on a binding, and how it takes the binding.

    ONNX Runtime 1.32's own method asks at every call whether it records for WebGPU, which takes
    longer than a small network's share; it calls this.
    """
    values = getattr(binding, "_iobinding", None)
    inner = getattr(getattr(session, "_sess", None), "run_with_iobinding", None)
    if values is None or inner is None:
        return session.run_with_iobinding, binding
    return inner, values


def check_inputs(session: Any, graph: Path, spec: DenoiserSpec) -> str:
    """The name of the session's one output; its inputs must be the spec's.

    Raises:
        BackendError: As ``check_signature``.
    """
    inputs, outputs = (
        [Port(p.name, p.type, TYPES.get(p.type), p.shape) for p in ports]
        for ports in (session.get_inputs(), session.get_outputs())
    )
    return check_signature(graph, inputs, outputs, spec)
