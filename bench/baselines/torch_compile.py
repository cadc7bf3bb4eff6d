"""``torch-compile``: the loop by hand over the module in ``torch.compile``, for its one shape."""

from __future__ import annotations

from typing import Any

from revstep.bench.baselines.protocol import Baseline, Given
from revstep.bench.baselines.torch_loop import TorchLoop, move_weights, network_of

NAME = "torch-compile"


def make(given: Given) -> Baseline:
    """The baseline: on a GPU with CUDA graphs (``reduce-overhead``).

    Opened again it is not compiled again: its weights and all else get new memory.
    """
    import torch

    mode = "default" if given.device == "cpu" else "reduce-overhead"
    compile: Any = torch.compile
    if (network := given.kept.get(NAME)) is None:
        # after eight shapes of one module torch runs it eagerly, and doesn't say so
        torch.compiler.reset()
        network = given.kept[NAME] = compile(network_of(given), mode=mode, dynamic=False)
    else:  # compiling takes up to minutes, each time
        move_weights(network)
    title = f"torch.compile {torch.__version__} ({mode}), {given.precision}"
    begin: Any = torch.compiler.cudagraph_mark_step_begin
    return TorchLoop(given, network, title, begin if mode != "default" else lambda: None)
