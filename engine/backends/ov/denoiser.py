"""``OpenVinoDenoiser``: an exported graph in OpenVINO, compiled for the rows of each lane."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.ov import library
from revstep.engine.backends.ov.compiled import GraphModels
from revstep.engine.backends.ov.requests import Bound
from revstep.engine.backends.protocol import NetworkBuffers, index_hint
from revstep.engine.backends.signature import check_signature
from revstep.engine.checks import check_whole
from revstep.engine.errors import BackendError
from revstep.engine.log import log
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.cores import usable_threads
from revstep.engine.system.forks import keep_for_ever, renew_in_children


class OpenVinoDenoiser:
    """A denoiser graph in OpenVINO, on the CPU.

    What is bound has a compiled model of its own: two requests of one model wait for each other.
    In a forked child one thread runs: those of OpenVINO's pools don't come back there.

    Args:
        graph: The float32 .onnx file of a bundle.
        spec: Its spec; the graph's inputs must be the spec's.
        precision: ``fp32``, or ``bf16``: its products are bfloat16's.
        threads: Threads inside an operator; None: as many as the process may use.

    Attributes:
        threads: The number.

    Raises:
        BackendError: OpenVINO is missing, has not the precision here, or refuses the graph, or
            the graph does not fit the spec.
    """

    compiles_rows = True

    def __init__(
        self,
        graph: Path,
        spec: DenoiserSpec,
        *,
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            check_whole(threads, "threads", 1)
        library.check_precision(precision)
        self.spec = spec
        self.precision = precision
        self.threads = threads or usable_threads()
        one = NetworkBuffers.allocate(spec, 1).inputs(spec)
        self._models = GraphModels(graph, precision)
        self._names = frozenset(one)
        check_signature(graph, *self._models.ports(self._names), spec)
        self._forks = 0
        self._bound: weakref.WeakSet[Bound] = weakref.WeakSet()
        renew_in_children(self)

    def after_fork(self) -> None:
        """Leaves all that has threads as it is, for ever; later calls open theirs."""
        self._models.after_fork()
        if self.threads == 1:
            return
        for bound in list(self._bound):
            keep_for_ever(bound.owned)
        self._bound.clear()
        self._forks += 1
        self.threads = 1

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """Compiles the graph for these rows, binds the buffers and runs it once.

        Raises:
            BackendError: OpenVINO can't compile or run the graph.
        """
        bound, forks = self._bind(buffers), self._forks
        me = object()  # a lane is one thread's at a time
        enter, leave = library.CALLS.enter, library.CALLS.leave

        def call() -> None:
            nonlocal bound, forks
            enter(me)
            try:
                if forks != self._forks:
                    log.warning(
                        "OpenVINO runs on one thread in a forked child, which has no others"
                    )
                    bound, forks = self._bind(buffers), self._forks
                for infer in bound.infers:
                    infer()
            except RuntimeError as error:  # OpenVINO's errors have no class of their own
                raise self._failed(error) from error
            finally:
                leave(me)

        return call

    def describe(self) -> dict[str, Any]:
        """Backend, version, device, precision and threads."""
        return {
            "backend": "openvino",
            "version": library.version(),
            "device": "cpu",
            "precision": self.precision,
            "threads": self.threads,
        }

    def _bind(self, buffers: NetworkBuffers) -> Bound:
        with library.CALLS.call():
            return self._bind_now(buffers)

    def _bind_now(self, buffers: NetworkBuffers) -> Bound:
        begun = perf_counter()
        inputs = buffers.inputs(self.spec)
        compiled = self._models.compile({n: a.shape for n, a in inputs.items()}, self.threads)
        try:
            self._check_output(compiled.body, buffers.out)
            bound = Bound(compiled, inputs, [buffers.out])
            for infer in bound.infers:
                infer()
        except RuntimeError as error:
            raise self._failed(error) from error
        self._bound.add(bound)
        log.info(
            "OpenVINO: %s (%s) for %d network rows is %s, in %.2f s",
            self._models.graph, self.precision, len(buffers.t),
            "read from the cache" if compiled.cached else "compiled", perf_counter() - begun,
        )  # fmt: skip
        return bound

    def _check_output(self, body: Any, out: NDArray[np.float32]) -> None:
        if tuple(body.outputs[0].get_shape()) != out.shape:
            raise BackendError(
                f"{self._models.graph.name}: the output is {tuple(body.outputs[0].get_shape())}; "
                f"the spec says {out.shape}: export the bundle again"
            )

    def _failed(self, error: RuntimeError) -> BackendError:
        return BackendError(f"OpenVINO {library.version()} failed: {error}{index_hint(self.spec)}")
