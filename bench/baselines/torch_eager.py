"""``torch-eager``: the loop by hand over the PyTorch module as it is."""

from __future__ import annotations

from revstep.bench.baselines.protocol import Baseline, Given
from revstep.bench.baselines.torch_loop import TorchLoop, network_of


def make(given: Given) -> Baseline:
    """The baseline."""
    import torch

    return TorchLoop(given, network_of(given), f"torch {torch.__version__}, {given.precision}")
