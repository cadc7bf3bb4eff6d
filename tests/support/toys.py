"""Tiny torch denoisers: an image one with learned variance, a policy, and a tabular MLP."""

import math

import torch
from torch import nn

from revstep.engine.spec.denoiser import Condition, Decoder, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import FlowSchedule, VPSchedule
from revstep.engine.spec.second_time import SecondTime


def embed(t, width):
    """Sinusoids of t (B,), float32 (B, width)."""
    rates = torch.exp(-math.log(1e4) * torch.arange(width // 2) / (width // 2))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ImageToy(nn.Module):
    """(B, 3, 8, 8), times, class labels -> (B, 6, 8, 8)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.label = nn.Embedding(5, 16)
        self.time = nn.Linear(16, 16)
        self.last = nn.Conv2d(16, 6, 3, padding=1)

    def forward(self, x, t, label):
        shift = self.time(embed(t, 16).to(self.time.weight.dtype)) + self.label(label)
        h = self.norm(self.first(x)) + shift[:, :, None, None]
        return self.last(nn.functional.silu(h))


class PolicyToy(nn.Module):
    """(B, 8, 2) action plans, times, observation (B, 4) -> (B, 8, 2)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(2, 16, 3, padding=1)
        self.context = nn.Linear(16 + 4, 16)
        self.last = nn.Conv1d(16, 2, 3, padding=1)

    def forward(self, x, t, observation):
        context = torch.cat([embed(t, 16).to(observation.dtype), observation], dim=-1)
        h = self.first(x.transpose(1, 2)) + self.context(context)[:, :, None]
        return self.last(torch.tanh(h)).transpose(1, 2)


class TabularToy(nn.Module):
    """(B, 6) rows of a table, times -> (B, 6)."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6 + 8, 32), nn.SiLU(), nn.Linear(32, 6))

    def forward(self, x, t):
        return self.net(torch.cat([x, embed(1000.0 * t, 8).to(x.dtype)], dim=-1))


class TwoTimesToy(nn.Module):
    """(B, 6) rows, 1000 t, 1000 r, class labels -> (B, 6); an error of 1 in t - r is seen."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6 + 8, 32), nn.SiLU(), nn.Linear(32, 6))
        self.label = nn.Embedding(4, 8)

    def forward(self, x, t, r, label):
        apart = torch.stack([torch.cos(t - r), torch.sin(t - r)], dim=-1)
        times = torch.cat([embed(t, 4), apart, embed(r, 2)], dim=-1)
        return self.net(torch.cat([x, times.to(x.dtype) + self.label(label)], dim=-1))


IMAGE = DenoiserSpec(
    shape=(3, 8, 8),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="label", dtype="int64", null=4, classes=5),),
    learned_variance=True,
    value_range=(-1.0, 1.0),
    clip=True,
    decoder=Decoder(shape=(3, 16, 16), scale=0.5),
)
POLICY = DenoiserSpec(
    shape=(8, 2),
    schedule=VPSchedule(steps=100, betas="squaredcos_cap_v2"),
    prediction="sample",
    name="actions",
    time=TimeInput(name="k"),
    conditions=(Condition(name="observation", shape=(4,), null=0.0),),
    batch=(1, 16),
)
TABULAR = DenoiserSpec(
    shape=(6,),
    schedule=FlowSchedule(),
    prediction="flow",
    name="row",
    time=TimeInput(name="t", kind="unit", fractions=True),
)


TWO_TIMES = DenoiserSpec(
    shape=(6,),
    schedule=FlowSchedule(),
    prediction="average_velocity",
    name="row",
    time=TimeInput(name="t", kind="thousand"),
    second_time=SecondTime(name="r", kind="thousand"),
    conditions=(Condition(name="label", dtype="int64", null=3, classes=4),),
)


def build(kind):
    """(module, spec, decoder or None) of fixed weights."""
    torch.manual_seed(7)
    make, spec = {
        "image": (ImageToy, IMAGE),
        "policy": (PolicyToy, POLICY),
        "tabular": (TabularToy, TABULAR),
        "two times": (TwoTimesToy, TWO_TIMES),
    }[kind]
    decoder = None
    if spec.decoder is not None:
        decoder = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1)).eval()
    return make().eval(), spec, decoder


def policy():
    """A factory, as the command line takes it."""
    return build("policy")


def tabular():
    """Likewise."""
    return build("tabular")
