"""Text encoders of pipelines as modules of token ids, (B, length) int64 each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class LastState(torch.nn.Module):
    """The last hidden states (B, length, width) of CLIP's or T5's encoder."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Of ids alone: the pipelines mask nothing."""
        states: torch.Tensor = self.model(ids).last_hidden_state
        return states


class MaskedState(torch.nn.Module):
    """The last hidden states of an encoder that is told which ids are the prompt's, and the mask.

    Returns:
        (B, length, width) and the mask, int64 (B, length).
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of ids, and 1 where they are the prompt's."""
        return self.model(ids, attention_mask=mask).last_hidden_state, mask


class Pooled(torch.nn.Module):
    """CLIP's pooled output, (B, width): its state at the token that ends the prompt."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Of ids."""
        pooled: torch.Tensor = self.model(ids).pooler_output
        return pooled


class PenultimateStates(torch.nn.Module):
    """SDXL's two CLIPs: their penultimate states beside each other, and the last one's projection.

    Returns:
        (B, length, sum of widths) and (B, projection's width).
    """

    def __init__(self, models: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(models)

    def forward(self, *ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of ids for each model."""
        found = [penultimate(m, i) for m, i in zip(self.models, ids, strict=True)]
        return torch.cat([states for states, _ in found], -1), found[-1][1]


class ThreeEncoders(torch.nn.Module):
    """Stable Diffusion 3's two CLIPs, with zeros up to T5's width; then T5's states.

    Returns:
        (B, length of CLIP + length of T5, width of T5) and both projections, (B, sum of widths).
    """

    def __init__(
        self, clips: Sequence[torch.nn.Module], t5: torch.nn.Module | None, length: int, width: int
    ) -> None:
        super().__init__()
        self.clips, self.t5 = torch.nn.ModuleList(clips), t5
        self.length, self.width = length, width

    def forward(self, *ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of ids for each CLIP, and for T5 where it is there."""
        found = [penultimate(m, i) for m, i in zip(self.clips, ids[: len(self.clips)], strict=True)]
        text = torch.cat([states for states, _ in found], -1)
        text = torch.nn.functional.pad(text, (0, self.width - text.shape[-1]))
        if self.t5 is None:
            more = torch.zeros_like(text[:, :1]).expand(-1, self.length, -1)
        else:
            more = self.t5(ids[-1]).last_hidden_state
        return torch.cat((text, more), 1), torch.cat([pooled for _, pooled in found], -1)


def penultimate(model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A CLIP's states before its last layer, and its projected pooled output if it has one."""
    out = model(ids, output_hidden_states=True)
    return out.hidden_states[-2], out[0]
