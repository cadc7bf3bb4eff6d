"""A diffusers ``UNet2DModel`` as a module of (x, t, *conditions) that returns a tensor."""

from __future__ import annotations

from typing import Any

import torch


class UNetModule(torch.nn.Module):
    """Calls the network positionally; with ``whole_times`` (learned embeddings) times are int64."""

    def __init__(self, network: Any, *, whole_times: bool = False) -> None:
        super().__init__()
        self.network = network
        self.whole_times = whole_times

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The network's output for x (B, C, H, W), t (B,) and int64 class labels (B,)."""
        if self.whole_times:
            t = t.round().to(torch.int64)
        out: torch.Tensor = self.network(x, t, class_labels, return_dict=False)[0]
        return out
