"""``torch-compile``: the loop by hand over the module in ``torch.compile``, for its one shape."""

from __future__ import annotations

from typing import Any

from revstep.bench.baselines.protocol import Baseline, Given
from revstep.bench.baselines.torch_loop import TorchLoop, network_of


def make(given: Given) -> Baseline:
    """The baseline: on a GPU with CUDA graphs (``reduce-overhead``)."""
    import torch

    # after eight shapes of one module torch runs it eagerly, and doesn't say so
    torch.compiler.reset()
    mode = "default" if given.device == "cpu" else "reduce-overhead"
    compile: Any = torch.compile
    network = compile(network_of(given), mode=mode, dynamic=False)
    title = f"torch.compile {torch.__version__} ({mode}), {given.precision}"
    begin: Any = torch.compiler.cudagraph_mark_step_begin
    return TorchLoop(given, network, title, begin if mode != "default" else lambda: None)
