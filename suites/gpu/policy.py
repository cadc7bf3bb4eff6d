"""The 1-D conditional U-Net of diffusion policies, in plain PyTorch.

References:
    Chi et al., "Diffusion policy: visuomotor policy learning via action diffusion", 2023; its
    ``ConditionalUnet1D``: three levels, two residual blocks each, scale and shift by time and
    observation.
"""

from __future__ import annotations

import math

import torch
from torch import nn

KERNEL = 5
GROUPS = 8
TIME_WIDTH = 128


class PolicyUnet(nn.Module):
    """Actions (B, horizon, actions), times (B,), observation (B, k) -> (B, horizon, actions).

    Args:
        actions: Numbers of one action.
        observation: Numbers of the observation.
        widths: Channels of the levels; the horizon is divisible by 2^(levels - 1).
    """

    def __init__(self, actions: int, observation: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        context = TIME_WIDTH + observation
        self.time = nn.Sequential(
            nn.Linear(TIME_WIDTH, 4 * TIME_WIDTH), nn.Mish(), nn.Linear(4 * TIME_WIDTH, TIME_WIDTH)
        )
        pairs = list(zip((actions, *widths[:-1]), widths, strict=True))
        last = len(pairs) - 1
        self.down = nn.ModuleList(
            Level(inside, outside, context, None if k == last else "down")
            for k, (inside, outside) in enumerate(pairs)
        )
        self.middle = nn.ModuleList(Block(widths[-1], widths[-1], context) for _ in range(2))
        self.up = nn.ModuleList(
            Level(2 * outside, inside, context, "up") for inside, outside in reversed(pairs[1:])
        )
        self.last = nn.Sequential(
            convolution(widths[0], widths[0]), nn.Conv1d(widths[0], actions, 1)
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor, observation: torch.Tensor) -> torch.Tensor:
        """The predicted noise."""
        half = TIME_WIDTH // 2
        index = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t[:, None].float() * torch.exp(-math.log(10000) * index / (half - 1))[None, :]
        wave = torch.cat([angles.sin(), angles.cos()], dim=-1).to(observation.dtype)
        context = torch.cat([self.time(wave), observation], dim=-1)
        h = x.transpose(1, 2)
        kept = []
        for down in self.down:
            h, before = down(h, context)
            kept.append(before)
        for block in self.middle:
            h = block(h, context)
        for up in self.up:
            h, _ = up(torch.cat([h, kept.pop()], dim=1), context)
        out: torch.Tensor = self.last(h)
        return out.transpose(1, 2)


class Level(nn.Module):
    """Two blocks, then half or twice the length, or neither."""

    def __init__(self, inside: int, outside: int, context: int, resize: str | None) -> None:
        super().__init__()
        self.first = Block(inside, outside, context)
        self.second = Block(outside, outside, context)
        self.resize: nn.Module = nn.Identity()
        if resize == "down":
            self.resize = nn.Conv1d(outside, outside, 3, stride=2, padding=1)
        elif resize == "up":
            self.resize = nn.ConvTranspose1d(outside, outside, 4, stride=2, padding=1)

    def forward(self, h: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """After and before the change of length."""
        h = self.second(self.first(h, context), context)
        return self.resize(h), h


class Block(nn.Module):
    """Two convolutions; time and observation scale and shift between them."""

    def __init__(self, inside: int, outside: int, context: int) -> None:
        super().__init__()
        self.first = convolution(inside, outside)
        self.second = convolution(outside, outside)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(context, 2 * outside))
        self.skip = nn.Conv1d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """The block."""
        scale, shift = self.film(context)[:, :, None].chunk(2, dim=1)
        out: torch.Tensor = self.second(scale * self.first(x) + shift) + self.skip(x)
        return out


def convolution(inside: int, outside: int) -> nn.Sequential:
    """Convolution, group norm, Mish."""
    return nn.Sequential(
        nn.Conv1d(inside, outside, KERNEL, padding=KERNEL // 2),
        nn.GroupNorm(GROUPS, outside),
        nn.Mish(),
    )
