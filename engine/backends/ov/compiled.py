"""A graph in OpenVINO, compiled for a number of rows: from the user's cache, or anew."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from revstep.engine.backends.ov import library
from revstep.engine.backends.ov.blobs import Blobs
from revstep.engine.backends.ov.scalar_path import HEAD, split_scalar_path
from revstep.engine.backends.signature import Port
from revstep.engine.bundle.layout import file_digest
from revstep.engine.errors import BackendError


@dataclasses.dataclass(frozen=True, slots=True)
class Compiled:
    """What runs a number of rows, one after the other.

    Attributes:
        head: The scalars' own path in float32, which feeds ``body``; None: there is none.
        body: The graph, or the rest of it.
        cached: Whether all came from the user's cache.
    """

    head: Any | None
    body: Any
    cached: bool


class GraphModels:
    """A graph and its compiled forms. Thread-safe.

    Args:
        graph: The .onnx file.
        precision: ``fp32`` or ``bf16``.
        keep: Whether compiled forms are kept in the user's cache, and found there.

    Raises:
        BackendError: OpenVINO can't read the graph.
    """

    def __init__(self, graph: Path, precision: str, *, keep: bool = True) -> None:
        self.graph = graph
        self.precision = precision
        self.after_fork()
        try:
            digest = hashlib.sha256(data := graph.read_bytes()).hexdigest()
            weights = graph.with_name(f"{graph.name}.data")
            if keep and weights.exists():
                digest += file_digest(weights)
            with library.CALLS.call():
                # which OpenVINO finds beside the file alone
                source = str(graph) if weights.exists() else data
                self._model = library.core().read_model(source)
        except (OSError, RuntimeError) as error:
            raise BackendError(
                f"OpenVINO {library.version()} can't load {graph}: {error}"
            ) from error
        self._digest = digest
        self._keep = keep

    def after_fork(self) -> None:
        """A lock that nobody holds."""
        self._lock = threading.Lock()

    def ports(self, names: frozenset[str]) -> tuple[list[Port], list[Port]]:
        """Inputs and outputs, under those of their names that are in ``names``, or any."""
        return (
            [_port(each, names) for each in self._model.inputs],
            [_port(each, names) for each in self._model.outputs],
        )

    def compile(self, shapes: Mapping[str, tuple[int, ...]], threads: int) -> Compiled:
        """The graph for inputs of these shapes, of its own: two may run at the same time.

        Args:
            shapes: Of every input, by name.
            threads: Threads inside an operator.

        Raises:
            BackendError: OpenVINO refuses it, or would run it in another precision.
        """
        blobs = Blobs((self._digest, self.precision, str(threads), repr(sorted(shapes.items()))))
        options = library.properties(self.precision, threads)
        found = self._from_cache(blobs, options) if self._keep else None
        if found is not None:
            return found
        try:
            model = self._reshaped(shapes)
            head = None
            if self.precision != "fp32":
                scalars = {name_in(p, shapes) for p in model.inputs if _is_scalar(p)}
                head, model = split_scalar_path(model, frozenset(scalars))
            body = self._compiled(model, self.precision, options)
            if head is not None:
                head = self._compiled(head, "fp32", library.properties("fp32", threads))
            for name, one in (("body", body), ("head", head)) if self._keep else ():
                if one is not None:
                    blobs.write(name, one)
        except RuntimeError as error:  # of OpenVINO; its errors have no class of their own
            raise BackendError(
                f"OpenVINO {library.version()} can't compile {self.graph}: {error}"
            ) from error
        return Compiled(head, body, cached=False)

    def _from_cache(self, blobs: Blobs, options: dict[str, Any]) -> Compiled | None:
        body = blobs.read("body", options)
        if body is None or not _taken(body, self.precision):
            return None
        if not any(HEAD in name for port in body.inputs for name in port.get_names()):
            return Compiled(None, body, cached=True)
        head = blobs.read("head", {**options, "INFERENCE_PRECISION_HINT": library.HINTS["fp32"]})
        return Compiled(head, body, cached=True) if head and _taken(head, "fp32") else None

    def _reshaped(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """A copy of the graph with all lengths fixed."""
        with self._lock:
            model = self._model.clone()
        model.reshape({port: list(shapes[name_in(port, shapes)]) for port in model.inputs})
        return model

    def _compiled(self, model: Any, precision: str, options: dict[str, Any]) -> Any:
        compiled = library.core().compile_model(model, library.DEVICE, options)
        library.check_taken(compiled, precision)
        return compiled


def _taken(compiled: Any, precision: str) -> bool:
    try:
        library.check_taken(compiled, precision)
    except BackendError:
        return False
    return True


def _is_scalar(port: Any) -> bool:
    """Whether it is one float a row, whose path stays in float32."""
    return len(port.get_shape()) == 1 and port.get_element_type().get_type_name() == "f32"


def name_in(port: Any, names: Any) -> str:
    """That of the port's names which is among ``names``; else any of them.

    ``any_name`` may be that of a tensor inside, which the port shares.
    """
    own: list[str] = sorted(port.get_names())
    return next((name for name in own if name in names), own[0] if own else "")


def _port(port: Any, names: frozenset[str]) -> Port:
    kind = port.get_element_type().get_type_name()
    dtype = library.INTERFACE.get(kind)
    dims = [d.get_length() if d.is_static else str(d) for d in port.get_partial_shape()]
    return Port(name_in(port, names), kind, None if dtype is None else np.dtype(dtype), dims)
