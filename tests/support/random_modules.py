"""Random small denoisers from a grammar of layers, and the faults that export must refuse.

A network is ``Net(recipe, ...)``: an entrance, layers that keep the shape of the features, an exit.
Features are (B, W) rows, (B, N, W) tokens or (B, W, H, V) pictures. A recipe is plain data: a layer
is its name, or (name, layers) where it holds some.
"""

import dataclasses

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import FlowSchedule, VPSchedule

WIDTH = 8
SHAPES = {"row": [(5,), (1,)], "tokens": [(5, 3), (4, 1)], "picture": [(2, 4, 6), (1, 5, 5)]}
EVERYWHERE = (
    "linear", "silu", "gelu", "tanh", "softplus", "layer_norm", "rms", "time", "film",
    "condition", "clamp", "where", "flip", "even_odd", "in_place", "glu", "loop",
)  # fmt: skip
LAYERS = {
    "row": (*EVERYWHERE, "batch_norm", "outer"),
    "tokens": (*EVERYWHERE, "attention", "causal", "conv1d", "pool", "merge"),
    "picture": (*EVERYWHERE, "conv", "dilated", "grouped", "group_norm", "batch_norm", "half",
                "squeeze_excite", "picture_attention", "pixel_shuffle"),
}  # fmt: skip
FAULTS = ("mixes", "branches", "draws", "bakes", "sorts")
HOLDING = ("residual", "gated")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network's recipe and its spec; ``fault`` is what export must refuse, or None."""

    kind: str
    shape: tuple
    layers: tuple
    flow: bool
    conditions: tuple
    fault: str | None

    def spec(self):
        own = {"schedule": VPSchedule(), "prediction": "epsilon"}
        if self.flow:
            time = TimeInput(name="t", kind="unit", fractions=True)
            own = {"schedule": FlowSchedule(), "prediction": "flow", "time": time}
        return DenoiserSpec(shape=self.shape, conditions=conditions(self.conditions), **own)

    def build(self):
        torch.manual_seed(3)
        return Net(self)


def conditions(names):
    known = {
        "label": Condition(name="label", dtype="int64", classes=3, null=2),
        "seen": Condition(name="seen", shape=(4,), null=0.0),
    }
    return tuple(known[name] for name in names)


@st.composite
def cases(draw, *, faults=True):
    kind = draw(st.sampled_from(sorted(LAYERS)))
    plain = st.sampled_from(LAYERS[kind])
    layer = st.recursive(
        plain,
        lambda inner: st.tuples(
            st.sampled_from(HOLDING), st.lists(inner, min_size=1, max_size=2).map(tuple)
        ),
        max_leaves=3,
    )
    return Case(
        kind=kind,
        shape=draw(st.sampled_from(SHAPES[kind])),
        layers=tuple(draw(st.lists(layer, min_size=1, max_size=4))),
        flow=draw(st.booleans()),
        conditions=draw(st.sampled_from([(), ("label",), ("seen",), ("label", "seen")])),
        fault=draw(st.sampled_from([None, None, None, *FAULTS])) if faults else None,
    )


class Net(nn.Module):
    """The network of a case."""

    def __init__(self, case):
        super().__init__()
        self.case = case
        channels = case.shape[0] if case.kind == "picture" else case.shape[-1]
        make = (lambda a, b: nn.Conv2d(a, b, 1)) if case.kind == "picture" else nn.Linear
        self.entrance, self.exit = make(channels, WIDTH), make(WIDTH, channels)
        self.label = nn.Embedding(3, WIDTH)
        self.seen = nn.Linear(4, WIDTH)
        self.layers = nn.ModuleList(layer(case.kind, recipe) for recipe in case.layers)

    def forward(self, x, t, *conditions):
        context = 0.0
        for name, value in zip(self.case.conditions, conditions, strict=True):
            context = context + (self.label if name == "label" else self.seen)(value)
        if not self.case.conditions:
            context = x.new_zeros(x.shape[0], WIDTH)
        h = self.entrance(x)
        for one in self.layers:
            h = one(h, t, context)
        return FAULT[self.case.fault](self.exit(h), x)


def branch(out, x):
    return out if out.sum() > 0 else -out


FAULT = {
    None: lambda out, x: out,
    "mixes": lambda out, x: out + x.mean(0, keepdim=True),
    "branches": branch,
    "draws": lambda out, x: out + torch.rand_like(out),
    "bakes": lambda out, x: out.reshape(2, *out.shape[1:]),
    "sorts": lambda out, x: out.sort(0).values,
}


def layer(kind, recipe):
    if isinstance(recipe, str):
        return Layer(kind, recipe)
    return Holding(recipe[0], nn.ModuleList(layer(kind, inner) for inner in recipe[1]))


class Holding(nn.Module):
    """Layers with a skip around them, or a gate."""

    def __init__(self, name, layers):
        super().__init__()
        self.name, self.layers = name, layers

    def forward(self, h, t, context):
        out = h
        for one in self.layers:
            out = one(out, t, context)
        return h + out if self.name == "residual" else h * torch.sigmoid(out)


class Layer(nn.Module):
    """One layer by name: its modules, and what it does with the features, time and context."""

    def __init__(self, kind, name):
        super().__init__()
        self.picture, self.name = kind == "picture", name
        self.linear, self.other = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.batch = {"row": nn.BatchNorm1d, "tokens": nn.Identity, "picture": nn.BatchNorm2d}[
            kind
        ](WIDTH)
        self.group = nn.GroupNorm(2, WIDTH)
        self.line = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.wide = nn.Conv2d(WIDTH, WIDTH, 3, padding=2, dilation=2)
        self.split = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=4)
        self.heads = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, h, t, context):
        own = getattr(self, f"_{self.name}", None)
        if own is not None:
            return own(h)
        if self.name in POINTWISE:
            return POINTWISE[self.name](h)
        if self.name in ("time", "film", "condition"):
            return self._told(h, t, context)
        last = h.movedim(1, -1) if self.picture else h
        last = LAST[self.name](self, last)
        return last.movedim(-1, 1) if self.picture else last

    def _told(self, h, t, context):
        if self.name == "condition":
            return h + self._wide(self.linear(context), h)
        wave = torch.sin(t[:, None] * torch.logspace(-3.0, 1.0, WIDTH))
        if self.name == "time":
            return h + self._wide(self.linear(wave), h)
        shift, scale = self.other(wave).chunk(2, 1)
        return h * (1.0 + self._wide(scale, h)) + self._wide(shift, h)

    def _wide(self, vector, h):
        """(B, W) to the axes of the features."""
        ones = [1] * (h.dim() - 2)
        shape = (-1, WIDTH, *ones) if self.picture else (-1, *ones, WIDTH)
        return vector.reshape(shape)

    def _attend(self, h, causal):
        n = h.shape[1]
        q, k, v = self.heads(h).unflatten(-1, (3, 2, WIDTH // 2)).permute(2, 0, 3, 1, 4)
        mask = torch.ones(n, n, dtype=torch.bool).tril() if causal else None
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(h.shape[0], n, WIDTH)

    def _attention(self, h):
        return self._attend(h, causal=False)

    def _causal(self, h):
        return self._attend(h, causal=True)

    def _picture_attention(self, h):
        out = self._attend(h.flatten(2).transpose(1, 2), causal=False)
        return h + out.transpose(1, 2).reshape(h.shape)

    def _conv1d(self, h):
        return self.line(h.transpose(1, 2)).transpose(1, 2)

    def _pool(self, h):
        return h + h.mean(1, keepdim=True).expand_as(h)

    def _merge(self, h):
        return h.reshape(h.shape[0], -1, 2 * h.shape[1]).roll(1, -1).reshape(h.shape)

    def _outer(self, h):
        return torch.einsum("bi,bj->bij", h, torch.tanh(h)).mean(-1)

    def _batch_norm(self, h):
        return self.batch(h)

    def _group_norm(self, h):
        return self.group(h)

    def _conv(self, h):
        return self.conv(h)

    def _dilated(self, h):
        return self.wide(h)

    def _grouped(self, h):
        return self.split(h)

    def _half(self, h):
        small = functional.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False)
        return functional.interpolate(small, size=h.shape[-2:], mode="nearest")

    def _squeeze_excite(self, h):
        return h * torch.sigmoid(self.linear(h.mean((2, 3))))[:, :, None, None]

    def _pixel_shuffle(self, h):
        return functional.pixel_unshuffle(functional.pixel_shuffle(h, 2), 2).flip(1)

    def _loop(self, h):
        axis = 1 if self.picture else -1
        parts = [part * (1.0 + 0.1 * i) for i, part in enumerate(h.split(2, axis))]
        return torch.cat(parts, axis)


def in_place(h):
    h = h.clone()
    h[:, :1] = 0.5
    return h.mul_(1.5)


POINTWISE = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "clamp": lambda h: h.clamp(-1.0, 0.5),
    "where": lambda h: torch.where(h > 0.1, h, 0.3 * h.abs()),
    "flip": lambda h: h.flip(1),
    "in_place": in_place,
}
LAST = {
    "linear": lambda self, h: self.linear(h),
    "layer_norm": lambda self, h: self.norm(h),
    "rms": lambda self, h: functional.rms_norm(h, (WIDTH,)),
    "glu": lambda self, h: functional.glu(self.other(h), -1),
    "even_odd": lambda self, h: torch.stack([h[..., 1::2], h[..., ::2]], -1).flatten(-2),
}
