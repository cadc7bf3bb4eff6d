"""``openvino``: the loop by hand over the bundle's graph, compiled by OpenVINO for its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.baselines.host_loop import HostLoop
from revstep.bench.baselines.protocol import Baseline, Given
from revstep.engine.backends.ov import library
from revstep.engine.backends.ov.compiled import name_in
from revstep.engine.errors import BackendError
from revstep.engine.message import Argument


def make(given: Given) -> Baseline:
    """The baseline.

    Raises:
        BackendError: OpenVINO has not the precision, or runs elsewhere.
    """
    if given.device != "cpu":
        raise BackendError(
            f"the baseline 'openvino' runs on the CPU, and the engine on {given.device}: use ",
            Argument("device", "cpu"), ", or leave it out of --vs",
        )  # fmt: skip
    library.check_precision(given.precision)
    core = library.core()
    # its bf16 is a way to run the float32 graph
    model = core.read_model(str(given.work.bundle.graph("fp32")))
    names = {given.spec.name, *(t.name for t in given.spec.times), *given.conditions}
    shapes = {given.spec.name: given.spec.shape}
    shapes |= {name: value.shape[1:] for name, value in given.conditions.items()}
    ports = {name_in(port, names): port for port in model.inputs}
    model.reshape({port: [given.rows, *shapes.get(name, ())] for name, port in ports.items()})
    options = library.properties(given.precision, given.threads)
    request = core.compile_model(model, library.DEVICE, options).create_infer_request()
    first = request.model_outputs[0]

    def call(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        # neither inputs nor outputs are copied
        out: NDArray[np.float32] = request.infer(inputs, share_inputs=True, share_outputs=True)[
            first
        ]
        return out

    return HostLoop(given, call, f"OpenVINO {library.version()}, {given.precision}, steps in numpy")
