"""Small networks of the layers that real ones are of, wide enough for every path of a product."""

import torch
from torch import nn
from torch.nn import functional
from toys import embed

from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import FlowSchedule, VPSchedule

CLASSES, SEEN = 5, 3
CONDITIONS = (
    Condition(name="label", dtype="int64", classes=CLASSES, null=CLASSES - 1),
    Condition(name="seen", shape=(SEEN,), null=0.0),
)


class Context(nn.Module):
    """Times, labels and observations as one vector a row."""

    def __init__(self, width, scale=1.0):
        super().__init__()
        self.scale = scale
        self.time = nn.Linear(32, width)
        self.label = nn.Embedding(CLASSES, width)
        self.seen = nn.Linear(SEEN, width)

    def forward(self, t, label, seen):
        return self.time(embed(self.scale * t, 32)) + self.label(label) + self.seen(seen)


class LinearNet(nn.Module):
    """(B, 7) rows of a table; of a width at which OpenVINO's single row has bits of its own."""

    def __init__(self, width=101):
        super().__init__()
        self.context = Context(width, 1000.0)
        self.first, self.middle = nn.Linear(7, width), nn.Linear(width, width)
        self.last = nn.Linear(width, 7)

    def forward(self, x, t, label, seen):
        h = functional.silu(self.first(x) + self.context(t, label, seen))
        return self.last(h + functional.gelu(self.middle(h)))


class AttentionNet(nn.Module):
    """(B, 10, 4) tokens."""

    def __init__(self, width=64, heads=4):
        super().__init__()
        self.heads = heads
        self.context = Context(width)
        self.first, self.last = nn.Linear(4, width), nn.Linear(width, 4)
        self.norm, self.mix = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x, t, label, seen):
        h = self.first(x) + self.context(t, label, seen)[:, None]
        q, k, v = self.mix(self.norm(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return self.last(h + self.out(attended.transpose(1, 2).flatten(2)))


class ConvNet(nn.Module):
    """(B, 3, 8, 8) images."""

    def __init__(self, width=32):
        super().__init__()
        self.context = Context(width)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.last = nn.Conv2d(2 * width, 3, 3, padding=1)

    def forward(self, x, t, label, seen):
        h = self.norm(self.first(x)) + self.context(t, label, seen)[:, :, None, None]
        h = functional.silu(h)
        low = functional.silu(self.down(h))
        return self.last(torch.cat([h, functional.interpolate(low, scale_factor=2.0)], 1))


NETWORKS = {
    "linear": (
        LinearNet,
        DenoiserSpec(
            shape=(7,), schedule=FlowSchedule(), prediction="flow", conditions=CONDITIONS,
            time=TimeInput(name="t", kind="unit", fractions=True),
        ),
    ),
    "attention": (
        AttentionNet,
        DenoiserSpec(
            shape=(10, 4), schedule=VPSchedule(steps=100, betas="squaredcos_cap_v2"),
            prediction="sample", conditions=CONDITIONS,
        ),
    ),
    "conv": (
        ConvNet,
        DenoiserSpec(
            shape=(3, 8, 8), schedule=VPSchedule(), prediction="epsilon", conditions=CONDITIONS,
            value_range=(-1.0, 1.0),
        ),
    ),
}  # fmt: skip


def export_network(name, path):
    """The bundle of that network, at ``path``; float32."""
    from revstep.export import export_module

    make, spec = NETWORKS[name]
    torch.manual_seed(11)
    export_module(make().eval(), spec, path, source={"kind": "factory", "name": f"service:{name}"})
    return path
