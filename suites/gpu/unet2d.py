"""diffusers' ``UNet2DModel`` in plain PyTorch, for machines without diffusers.

Only what the suite's two configurations use. The parameters have diffusers' names, so that its
weights load, and a test compares the outputs. The operators are the same, one for one.

References:
    Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", 2020; diffusers 0.42,
    ``models/unets/unet_2d.py``.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ["UNet2d", "UNet2dConfig"]


@dataclasses.dataclass(frozen=True)
class UNet2dConfig:
    """The fields of diffusers' config.json that may differ here, under its names.

    ``attention`` says for each level, from the widest picture on, whether its blocks have
    self-attention; ``attention_head_dim`` None is one head.
    """

    in_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    attention: tuple[bool, ...]
    attention_head_dim: int | None
    downsample_padding: int
    flip_sin_to_cos: bool
    freq_shift: int
    norm_num_groups: int
    norm_eps: float
    num_class_embeds: int | None = None


class UNet2d(nn.Module):
    """x (B, C, S, S), times (B,), class labels (B,) or None -> (B, C, S, S)."""

    def __init__(self, config: UNet2dConfig) -> None:
        super().__init__()
        c, widths = config, config.block_out_channels
        self.config = config
        self.conv_in = nn.Conv2d(c.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0])
        if c.num_class_embeds is not None:
            self.class_embedding = nn.Embedding(c.num_class_embeds, 4 * widths[0])
        self.down_blocks = nn.ModuleList(
            DownBlock(c, level, widths[max(0, level - 1)], width)
            for level, width in enumerate(widths)
        )
        self.mid_block = MidBlock(c, widths[-1])
        up = widths[::-1]
        self.up_blocks = nn.ModuleList(
            UpBlock(c, level, up[min(level + 1, len(up) - 1)], up[max(0, level - 1)], width)
            for level, width in enumerate(up)
        )
        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, widths[0], c.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], c.in_channels, 3, padding=1)

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The network's output."""
        wave = sinusoids(t, self.config)
        emb = self.time_embedding(wave.to(self.conv_in.weight.dtype))
        if class_labels is not None:
            emb = emb + self.class_embedding(class_labels)
        h = self.conv_in(x)
        kept = [h]
        for down in self.down_blocks:
            h, more = down(h, emb)
            kept += more
        h = self.mid_block(h, emb)
        for up in self.up_blocks:
            h = up(h, kept, emb)
        out: torch.Tensor = self.conv_out(functional.silu(self.conv_norm_out(h)))
        return out


def sinusoids(t: torch.Tensor, config: UNet2dConfig) -> torch.Tensor:
    """Sines and cosines of the times (B,), float32 (B, first width)."""
    half = config.block_out_channels[0] // 2
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    rates = torch.exp(-math.log(10000) * index / (half - config.freq_shift))
    angles = t[:, None].float() * rates[None, :]
    waves = (angles.sin(), angles.cos())
    return torch.cat(waves[::-1] if config.flip_sin_to_cos else waves, dim=-1)


class TimeEmbedding(nn.Module):
    """(B, width) -> (B, 4 width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, 4 * width)
        self.linear_2 = nn.Linear(4 * width, 4 * width)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """Two layers."""
        out: torch.Tensor = self.linear_2(functional.silu(self.linear_1(wave)))
        return out


class Resnet(nn.Module):
    """Two convolutions with a shortcut, shifted by the embedding."""

    def __init__(self, config: UNet2dConfig, inside: int, outside: int) -> None:
        super().__init__()
        groups, eps = config.norm_num_groups, config.norm_eps
        self.norm1 = nn.GroupNorm(groups, inside, eps)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * config.block_out_channels[0], outside)
        self.norm2 = nn.GroupNorm(groups, outside, eps)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        if inside != outside:
            self.conv_shortcut = nn.Conv2d(inside, outside, 1)
        self.shortcut = inside != outside

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """The block."""
        h = self.conv1(functional.silu(self.norm1(x)))
        h = h + self.time_emb_proj(functional.silu(emb))[:, :, None, None]
        h = self.conv2(functional.silu(self.norm2(h)))
        out: torch.Tensor = (self.conv_shortcut(x) if self.shortcut else x) + h
        return out


class Attention(nn.Module):
    """Self-attention over the picture's places."""

    def __init__(self, config: UNet2dConfig, width: int) -> None:
        super().__init__()
        self.heads = width // (config.attention_head_dim or width)
        self.group_norm = nn.GroupNorm(config.norm_num_groups, width, config.norm_eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What attention adds, plus x."""
        b, c, height, width = x.shape
        h = x.view(b, c, height * width).transpose(1, 2)
        h = self.group_norm(h.transpose(1, 2)).transpose(1, 2)
        q, k, v = (
            linear(h).view(b, -1, self.heads, c // self.heads).transpose(1, 2)
            for linear in (self.to_q, self.to_k, self.to_v)
        )
        h = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, -1, c)
        added: torch.Tensor = self.to_out[0](h).transpose(-1, -2).reshape(b, c, height, width)
        return added + x


class Resize(nn.Module):
    """Half or twice the size, and a convolution."""

    def __init__(self, width: int, *, up: bool, padding: int = 1) -> None:
        super().__init__()
        self.up, self.padding = up, padding
        self.conv = nn.Conv2d(width, width, 3, stride=1 if up else 2, padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The other size."""
        if self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        elif self.padding == 0:
            x = functional.pad(x, (0, 1, 0, 1))
        out: torch.Tensor = self.conv(x)
        return out


class DownBlock(nn.Module):
    """One level on the way down; returns all that the way up needs."""

    def __init__(self, config: UNet2dConfig, level: int, inside: int, width: int) -> None:
        super().__init__()
        count = config.layers_per_block
        self.resnets = nn.ModuleList(
            Resnet(config, inside if k == 0 else width, width) for k in range(count)
        )
        self.attends = config.attention[level]
        if self.attends:
            self.attentions = nn.ModuleList(Attention(config, width) for _ in range(count))
        self.shrinks = level < len(config.block_out_channels) - 1
        if self.shrinks:
            resize = Resize(width, up=False, padding=config.downsample_padding)
            self.downsamplers = nn.ModuleList([resize])

    def forward(
        self, h: torch.Tensor, emb: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The level's output, and its blocks'."""
        kept = []
        for k, resnet in enumerate(self.resnets):
            h = resnet(h, emb)
            if self.attends:
                h = self.attentions[k](h)
            kept.append(h)
        if self.shrinks:
            h = self.downsamplers[0](h)
            kept.append(h)
        return h, kept


class MidBlock(nn.Module):
    """The smallest picture."""

    def __init__(self, config: UNet2dConfig, width: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(config, width)])
        self.resnets = nn.ModuleList(Resnet(config, width, width) for _ in range(2))

    def forward(self, h: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """The block."""
        h = self.attentions[0](self.resnets[0](h, emb))
        out: torch.Tensor = self.resnets[1](h, emb)
        return out


class UpBlock(nn.Module):
    """One level on the way up; takes what the way down kept."""

    def __init__(
        self, config: UNet2dConfig, level: int, below: int, before: int, width: int
    ) -> None:
        super().__init__()
        count = config.layers_per_block + 1
        self.resnets = nn.ModuleList(
            Resnet(
                config,
                (before if k == 0 else width) + (below if k == count - 1 else width),
                width,
            )
            for k in range(count)
        )
        self.attends = config.attention[::-1][level]
        if self.attends:
            self.attentions = nn.ModuleList(Attention(config, width) for _ in range(count))
        self.grows = level < len(config.block_out_channels) - 1
        if self.grows:
            self.upsamplers = nn.ModuleList([Resize(width, up=True)])

    def forward(self, h: torch.Tensor, kept: list[torch.Tensor], emb: torch.Tensor) -> torch.Tensor:
        """The level's output; takes its part off ``kept``."""
        for k, resnet in enumerate(self.resnets):
            h = resnet(torch.cat([h, kept.pop()], dim=1), emb)
            if self.attends:
                h = self.attentions[k](h)
        out: torch.Tensor = self.upsamplers[0](h) if self.grows else h
        return out
