"""Kinds of states: from 1-D to 4-D, of odd sizes, with the layers that such networks have."""

import torch
from torch import nn
from torch.nn import functional

from revstep.engine.spec.denoiser import TimeInput
from revstep.engine.spec.schedule import FlowSchedule
from zoo.animal import Animal, embed


class Conv(nn.Module):
    """A residual convolution in ``d`` dimensions, with norm and time."""

    def __init__(self, d, channels, norm=None):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[d]
        self.first = conv(channels, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8) if norm is None else norm
        self.time = nn.Linear(8, 8)
        self.last = conv(8, channels, 3, padding=1)
        self.d = d

    def forward(self, x, t):
        shift = self.time(embed(t, 8).to(self.time.weight.dtype))
        h = functional.silu(self.norm(self.first(x)) + shift[(..., *[None] * self.d)])
        return x + self.last(h)


class UNet(nn.Module):
    """Down, up and a skip, at a size that halving doesn't divide."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1)
        self.last = nn.Conv2d(5, 1, 3, padding=1)

    def forward(self, x, t):
        h = self.up(torch.tanh(self.down(x) + 1e-3 * t[:, None, None, None]))
        h = functional.interpolate(h, size=x.shape[-2:], mode="nearest")
        return self.last(torch.cat([x, h], 1))


class Transformer(nn.Module):
    """One block of self-attention over the tokens, in PyTorch's own layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.time = nn.Linear(8, 8)

    def forward(self, x, t):
        return self.body(x + self.time(embed(t, 8).to(x.dtype))[:, None])


class Attention(nn.Module):
    """Heads by einops-like reshapes, and scaled_dot_product_attention."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x, t):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, 4).permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(q, k, v)
        return self.out(h.transpose(1, 2).reshape(b, n, 8)) + 1e-3 * t[:, None, None]


class Patches(nn.Module):
    """Patches of a picture as tokens, as DiT has them, with modulated norms."""

    def __init__(self):
        super().__init__()
        self.proj, self.out = nn.Conv2d(2, 8, 2, stride=2), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8, elementwise_affine=False)
        self.mod = nn.Linear(8, 16)

    def forward(self, x, t):
        tokens = self.proj(x).flatten(2).transpose(1, 2)
        shift, scale = self.mod(embed(t, 8).to(x.dtype))[:, None].chunk(2, -1)
        tokens = self.out(self.norm(tokens) * (1 + scale) + shift)
        b, n, _ = tokens.shape
        rows = tokens.reshape(b, 3, n // 3, 2, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return rows.reshape(x.shape)


class Recurrent(nn.Module):
    """A recurrent layer over the horizon."""

    def __init__(self):
        super().__init__()
        self.body, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x, t):
        return self.out(self.body(x)[0]) + 1e-3 * t[:, None, None]


class LearnedVariance(nn.Module):
    """Twice the channels out."""

    def __init__(self):
        super().__init__()
        self.f = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x, t):
        return self.f(x) + 1e-3 * t[:, None, None, None]


class Permuting(nn.Module):
    """Views, permutations, strides, rolls."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(5, 5)

    def forward(self, x, t):
        h = self.f(x.movedim(1, -1).contiguous().view(x.shape[0], -1, 5).flip(1))
        even, odd = h[:, ::2], h[:, 1::2]
        h = torch.stack([odd, even], 2).flatten(1, 2).roll(1, 1).unflatten(1, (4, 2))
        return h.permute(0, 3, 1, 2) + 1e-3 * t.reshape(-1, 1, 1, 1)


class Small(nn.Module):
    """A perceptron."""

    def __init__(self, width=1):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width + 8, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x, t):
        return self.net(torch.cat([x, embed(t, 8).to(x.dtype)], -1))


FLOW = {
    "schedule": FlowSchedule(),
    "prediction": "flow",
    "time": TimeInput(name="t", kind="unit", fractions=True),
}

STATES = (
    Animal(name="one number a sample", build=Small, shape=(1,)),
    Animal(name="1-D state of an odd size", build=lambda: Small(7), shape=(7,)),
    Animal(name="2-D state, Conv1d", build=lambda: Conv(1, 3), shape=(3, 9)),
    Animal(name="3-D state, Conv2d", build=lambda: Conv(2, 3), shape=(3, 5, 7)),
    Animal(name="4-D state, Conv3d", build=lambda: Conv(3, 2), shape=(2, 3, 4, 5)),
    Animal(name="InstanceNorm", build=lambda: Conv(2, 1, nn.InstanceNorm2d(8, affine=True)),
           shape=(1, 6, 6)),
    Animal(name="a U-Net at an odd size", build=UNet, shape=(1, 7, 9)),
    Animal(name="nn.TransformerEncoderLayer", build=Transformer, shape=(5, 8)),
    Animal(name="scaled_dot_product_attention", build=Attention, shape=(5, 8)),
    Animal(name="patches with modulated norms", build=Patches, shape=(2, 6, 4)),
    Animal(name="a recurrent layer", build=Recurrent, shape=(6, 3)),
    Animal(name="learned variance", build=LearnedVariance, shape=(3, 4, 4),
           spec={"learned_variance": True}),
    Animal(name="views and permutations", build=Permuting, shape=(5, 4, 2)),
    Animal(name="a flow over [0, 1]", build=lambda: Small(6), spec=FLOW),
)  # fmt: skip
