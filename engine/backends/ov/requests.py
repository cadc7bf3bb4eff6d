"""Requests of a compiled graph on arrays, which they read and write where they lie."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.ov import library
from revstep.engine.backends.ov.compiled import Compiled, name_in


class Bound:
    """Requests on arrays, and the models that they are of.

    Args:
        compiled: The graph for rows as the arrays have them.
        inputs: By name.
        outputs: In the graph's order, of its shapes.

    Attributes:
        infers: The calls, one after the other.
        owned: All that must live as long.
    """

    def __init__(
        self,
        compiled: Compiled,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[NDArray[Any]],
    ) -> None:
        tensor = library.openvino().Tensor
        head, body, arrays = compiled.head, compiled.body, dict(inputs)
        requests: list[tuple[Any, Sequence[NDArray[Any]]]] = []
        if head is not None:
            wires = [port for port in body.inputs if name_in(port, arrays) not in arrays]
            wires.sort(key=lambda port: int(name_in(port, ()).rpartition(".")[2]))
            given = [array_for(port) for port in wires]
            arrays.update((name_in(p, ()), a) for p, a in zip(wires, given, strict=True))
            requests.append((head, given))
        requests.append((body, outputs))
        infers: list[Callable[[], Any]] = []
        for model, results in requests:
            request = model.create_infer_request()
            for port in model.inputs:
                request.set_tensor(port, tensor(arrays[name_in(port, arrays)], shared_memory=True))
            for index, array in enumerate(results):
                request.set_output_tensor(index, tensor(array, shared_memory=True))
            # else it returns copies of the outputs
            infers.append(functools.partial(request.infer, share_outputs=True))
        self.infers = tuple(infers)
        self.owned = [head, body, arrays, outputs, *infers]


def array_for(port: Any) -> NDArray[Any]:
    """An array for what a compiled model takes or gives there, zeros."""
    return np.zeros(tuple(port.get_shape()), port.get_element_type().to_dtype())
