"""One network call of a bundle, in any form that it can have on a CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.registry import BACKENDS, Wanted
from revstep.engine.bundle.reader import Bundle
from suites.cpu.tasks import Task, conditions_of, noise_of

TIME = 40.0  # of the rows' time input, an index


def form(
    bundle: str, rows: int, runtime: str, precision: str, rewrites: Sequence[str] = ()
) -> Task:
    """One network call on one thread.

    Args:
        bundle: Its path.
        rows: Of the call.
        runtime: A backend's name.
        precision: Of its products.
        rewrites: Applied to the bundle's graph first; empty: the graph as it was exported.
    """
    opened = Bundle.open(bundle)
    folder = tempfile.TemporaryDirectory()
    graph = None
    if rewrites:
        from revstep.export.rewrite.apply import rewrite_graph

        graph = Path(folder.name) / "rewritten.onnx"
        rewrite_graph(opened.graph("fp32"), graph, rewrites)
    opener = BACKENDS[runtime].on_cpu
    assert opener is not None
    denoiser = opener(Wanted(opened, precision, threads=1, graph=graph))
    buffers = NetworkBuffers.allocate(opened.spec, rows)
    buffers.x[:], buffers.t[:] = noise_of(opened.spec, rows), TIME
    for name, value in conditions_of(opened.spec, rows).items():
        buffers.conditions[name][:] = value
    network = denoiser.bind(buffers)

    def call() -> object:
        network()
        return buffers.out

    return Task(call, told={**denoiser.describe(), "graph": graph and graph.name}, keep=folder)
