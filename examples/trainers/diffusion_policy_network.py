"""A diffusion policy as its authors train it, small: stands for your own code and checkpoint.

Chi et al. 2023, "Diffusion policy: visuomotor policy learning via action diffusion"
(arXiv:2303.04137): a 1-D U-Net over the action sequence, each block modulated by the time and by
what an encoder makes of the last observations; noise is predicted, and removed by DDIM.
"""

from __future__ import annotations

import math

import diffusers
import torch
from torch import nn

HORIZON, ACTIONS = 16, 2
OBSERVATIONS, STATES, PIXELS = 2, 4, 32  # the last two, each a picture and a state


class Policy(nn.Module):
    """The networks, the scheduler, and how raw numbers are scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ObservationEncoder()
        self.model = ConditionalUnet1D(OBSERVATIONS * (self.encoder.features + STATES))
        self.scheduler = diffusers.DDIMScheduler(
            num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=True
        )
        self.register_buffer("action_scale", torch.tensor([0.02, 0.004]))  # raw to -1 .. 1
        self.register_buffer("action_offset", torch.tensor([-1.0, 0.2]))

    def predict_action(
        self, image: torch.Tensor, state: torch.Tensor, noise: torch.Tensor, steps: int = 16
    ) -> torch.Tensor:
        """Raw actions (B, 16, 2) of pictures (B, 2, 3, 32, 32) in 0 .. 1 and states (B, 2, 4)."""
        condition = self.encoder(image, state)
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            predicted = self.model(noise, t.expand(len(noise)), global_cond=condition)
            noise = self.scheduler.step(predicted, t, noise).prev_sample
        return (noise - self.action_offset) / self.action_scale


class ObservationEncoder(nn.Module):
    """Pictures and states, a few of each -> one vector; GroupNorm, as the weights are averaged."""

    features = 16

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            *(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.GroupNorm(2, 8), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.GroupNorm(4, 16), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, self.features)),
        )

    def forward(self, image: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(B, To, 3, H, W) in 0 .. 1 and (B, To, D) -> (B, To * (features + D))."""
        features = self.backbone((2 * image - 1).flatten(0, 1)).unflatten(0, image.shape[:2])
        return torch.cat([features, state], -1).flatten(1)


class ConditionalUnet1D(nn.Module):
    """Noisy actions (B, T, A), times (B,), a condition (B, C) -> the noise (B, T, A)."""

    def __init__(self, condition: int, dims: tuple[int, ...] = (16, 32), embed: int = 16) -> None:
        super().__init__()
        self.embed = embed
        self.time = nn.Sequential(nn.Linear(embed, 4 * embed), nn.Mish(), nn.Linear(4 * embed, 16))
        pairs, c = list(zip((ACTIONS, *dims), dims, strict=False)), condition + 16
        self.down = nn.ModuleList(
            nn.ModuleList([Block(a, b, c), Block(b, b, c), nn.Conv1d(b, b, 3, 2, 1)])
            for a, b in pairs
        )
        self.down[-1][2] = nn.Identity()
        self.middle = nn.ModuleList([Block(dims[-1], dims[-1], c), Block(dims[-1], dims[-1], c)])
        self.up = nn.ModuleList(
            nn.ModuleList([Block(2 * b, a, c), Block(a, a, c), nn.ConvTranspose1d(a, a, 4, 2, 1)])
            for a, b in reversed(pairs[1:])
        )
        self.last = nn.Sequential(conv_block(dims[0], dims[0]), nn.Conv1d(dims[0], ACTIONS, 1))

    def forward(self, x: torch.Tensor, t: torch.Tensor, global_cond: torch.Tensor) -> torch.Tensor:
        """The predicted noise."""
        half = self.embed // 2
        rate = torch.exp(torch.arange(half, device=x.device) * -(math.log(10000) / (half - 1)))
        angle = t[:, None] * rate[None, :]
        time = self.time(torch.cat([angle.sin(), angle.cos()], -1))
        condition = torch.cat([time, global_cond], -1)
        x, skips = x.transpose(1, 2), []
        for first, second, shorter in self.down:
            skips.append(second(first(x, condition), condition))
            x = shorter(skips[-1])
        for block in self.middle:
            x = block(x, condition)
        for first, second, longer in self.up:
            x = longer(second(first(torch.cat([x, skips.pop()], 1), condition), condition))
        return self.last(x).transpose(1, 2)


class Block(nn.Module):
    """Two convolutions; between them the condition scales and shifts each channel (FiLM)."""

    def __init__(self, channels: int, out: int, condition: int) -> None:
        super().__init__()
        self.first, self.second = conv_block(channels, out), conv_block(out, out)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * out))
        self.residual = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) -> (B, out, T)."""
        scale, shift = self.film(condition)[:, :, None].chunk(2, 1)
        return self.second(scale * self.first(x) + shift) + self.residual(x)


def conv_block(channels: int, out: int) -> nn.Sequential:
    """A convolution of 5 ticks, its norm and activation."""
    return nn.Sequential(nn.Conv1d(channels, out, 5, padding=2), nn.GroupNorm(8, out), nn.Mish())
