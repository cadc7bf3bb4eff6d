"""``OpenVinoPart``: a network beside the denoiser in OpenVINO, one row a call."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.ov import library
from revstep.engine.backends.ov.compiled import GraphModels
from revstep.engine.backends.ov.requests import Bound, array_for
from revstep.engine.backends.signature import Port
from revstep.engine.checks import check_whole
from revstep.engine.errors import BackendError
from revstep.engine.system.cores import usable_threads
from revstep.engine.system.forks import keep_for_ever, renew_in_children

Shapes = dict[str, tuple[int, ...]]


class _Call:
    """The graph for inputs of certain shapes, with the arrays of its calls."""

    def __init__(
        self, models: GraphModels, shapes: Shapes, inputs: Sequence[Port], threads: int
    ) -> None:
        compiled = models.compile(shapes, threads)
        self.inputs = {p.name: np.zeros(shapes[p.name], p.dtype) for p in inputs}
        self.outputs = [array_for(port) for port in compiled.body.outputs]
        self.bound = Bound(compiled, self.inputs, self.outputs)

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        for name, array in self.inputs.items():
            array[:] = feeds[name]
        for infer in self.bound.infers:
            infer()
        return [array.copy() for array in self.outputs]


class OpenVinoPart:
    """A graph in OpenVINO, on the CPU. Thread-safe: calls wait for each other.

    It is compiled for one row, so that a row's bits don't depend on others. In a forked child one
    thread runs, as of ``OpenVinoDenoiser``.

    Args:
        graph: The float32 .onnx file.
        who: What it is, for errors.
        names: What inputs are called, those of others among them.
        precision: ``fp32``, or ``bf16``: its products are bfloat16's.
        threads: Threads inside an operator; None: as many as the process may use.

    Raises:
        BackendError: OpenVINO is missing, has not the precision here, or refuses the graph.
    """

    rows = 1

    def __init__(
        self,
        graph: Path,
        who: str,
        names: frozenset[str],
        *,
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            check_whole(threads, "threads", 1)
        self._who, self._precision = who, precision
        self._threads = threads or usable_threads()
        library.check_precision(precision)
        # a cache of such graphs would leave the denoiser's no room, and save no time
        self._models = GraphModels(graph, precision, keep=False)
        self.inputs, self.outputs = self._models.ports(names)
        self._calls: dict[tuple[tuple[int, ...], ...], _Call] = {}
        self._lock = threading.Lock()
        renew_in_children(self)
        if all(isinstance(n, int) for p in self.inputs for n in p.dims[1:]):
            with library.CALLS.call():  # what it can't compile is refused here
                self._call({p.name: (1, *p.dims[1:]) for p in self.inputs})

    def after_fork(self) -> None:
        """Leaves all that has threads, or that is in a call, as it is, for ever."""
        inside = self._lock.locked()
        self._lock = threading.Lock()
        self._models.after_fork()
        if self._threads == 1 and not inside:
            return
        for call in self._calls.values():
            keep_for_ever(call.bound.owned)
        self._calls = {}
        self._threads = 1

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``PartGraph``."""
        rows = [{n: v[i : i + 1] for n, v in feeds.items()} for i in range(_rows(feeds))]
        found = [self._one(row) for row in rows]
        return (
            found[0] if len(found) == 1 else [np.concatenate(o) for o in zip(*found, strict=True)]
        )

    def describe(self) -> dict[str, Any]:
        """See ``PartGraph``; its precision too."""
        return {
            "backend": "openvino",
            "version": library.version(),
            "device": "cpu",
            "precision": self._precision,
        }

    def _one(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with self._lock, library.CALLS.call():
            try:
                return self._call({name: value.shape for name, value in feeds.items()})(feeds)
            except RuntimeError as error:  # OpenVINO's errors have no class of their own
                raise BackendError(
                    f"{self._who} failed: OpenVINO {library.version()}: {error}"
                ) from error

    def _call(self, shapes: Shapes) -> _Call:
        key = tuple(shapes[port.name] for port in self.inputs)
        if key not in self._calls:
            self._calls[key] = _Call(self._models, shapes, self.inputs, self._threads)
        return self._calls[key]


def _rows(feeds: Mapping[str, NDArray[Any]]) -> int:
    return len(next(iter(feeds.values())))
