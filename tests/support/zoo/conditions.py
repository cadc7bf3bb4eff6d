"""Kinds of conditions, of masks, of names, and of what a module takes and returns."""

import collections
import dataclasses

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from revstep.engine.spec.denoiser import Condition
from zoo.animal import Animal, embed
from zoo.forwards import Doubling

WIDTH, TOKENS = 8, 5


class Cross(nn.Module):
    """Cross-attention to a context (B, 5, 4) under a mask; ``bias`` makes the mask of it."""

    def __init__(self, bias):
        super().__init__()
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(4, 2 * WIDTH)
        self.o = nn.Linear(WIDTH, WIDTH)
        self.bias = bias

    def forward(self, x, t, context, mask):
        q, (k, v) = self.q(x)[:, None], (y[:, None] for y in self.kv(context).chunk(2, -1))
        bias = self.bias(mask, q)
        h = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)[:, 0]
        return self.o(h) + 1e-3 * t[:, None, None] * x


class Masked(nn.Module):
    """Self-attention written out, with -inf where the mask is off."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x, t, mask):
        scores = (x @ x.transpose(1, 2)).masked_fill(~mask[:, None, :], float("-inf"))
        return self.f(scores.softmax(-1) @ x) + 1e-3 * t[:, None, None]


def bool_bias(mask, q):
    return mask.bool()[:, None, None, :].expand(-1, 1, q.shape[2], -1)


def infinite_bias(mask, q):
    off = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(mask == 0, float("-inf"))
    return off[:, None, None, :].expand(-1, 1, q.shape[2], -1)


def large_bias(mask, q):
    return ((1.0 - mask.to(q.dtype)) * -1e4)[:, None, None, :].expand(-1, 1, q.shape[2], -1)


class Policy(nn.Module):
    """A transformer's decoder with a constant causal mask, as diffusion policies have it."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerDecoderLayer(WIDTH, 2, 16, batch_first=True)
        self.body = nn.TransformerDecoder(layer, 1)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x, t, obs):
        return self.body(x, obs, tgt_mask=self.mask) + 1e-3 * t[:, None, None] * x


class Tokens(nn.Module):
    """Embedded token ids, pooled."""

    def __init__(self):
        super().__init__()
        self.table, self.f = nn.Embedding(11, 6, padding_idx=0), nn.Linear(6, 6)

    def forward(self, x, t, ids):
        return self.f(x) + self.table(ids).mean(1) + 1e-3 * t[:, None]


class Labelled(nn.Module):
    """A class label, embedded."""

    def __init__(self):
        super().__init__()
        self.table, self.f = nn.Embedding(5, 6), nn.Linear(6, 6)

    def forward(self, x, t, label):
        return self.f(x + self.table(label)) + 1e-3 * t[:, None]


class Jump(nn.Module):
    """A second time: the one that the step goes to."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(6, 6)

    def forward(self, x, t, r):
        return self.f(x) * torch.cos(t - r.to(t.dtype))[:, None].to(x.dtype)


class Named(nn.Module):
    """A condition of any name."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(6, 6)

    def forward(self, x, t, c):
        return torch.cos(self.f(x)) + c.view(-1, 6) + 1e-3 * t[:, None]


class KeywordOnly(nn.Module):
    """Takes all but the state by name, in another order than the spec's."""

    def __init__(self):
        super().__init__()
        self.f, self.g = nn.Linear(6, 6), nn.Linear(3, 6)

    def forward(self, x, *, obs, timestep):
        return self.f(x) + self.g(obs) + 1e-3 * timestep[:, None]


class Trailing(nn.Module):
    """Takes one number per sample as (B, 1)."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(7, 6)

    def forward(self, x, t, weight):
        return self.f(torch.cat([x, weight], 1)) + 1e-3 * t[:, None]


class InDtype(nn.Module):
    """An embedding that comes in another dtype, which the module casts."""

    def __init__(self, dtype):
        super().__init__()
        self.f, self.g = nn.Linear(6, 6), nn.Linear(4, 6)
        self.dtype = dtype

    def forward(self, x, t, prompt):
        if not torch.compiler.is_compiling() and x.dtype == torch.float32:
            assert prompt.dtype == self.dtype, prompt.dtype
        return self.f(x) + self.g(prompt.to(x.dtype)) + 1e-3 * t[:, None]


class TimeAndTokens(nn.Module):
    """What text-to-anything networks take: time, tokens' embeddings, a pooled one."""

    def __init__(self):
        super().__init__()
        self.pool, self.time, self.f = nn.Linear(3, 6), nn.Linear(8, 6), nn.Linear(6, 6)

    def forward(self, x, t, prompt, pooled):
        h = x + self.time(embed(t, 8).to(x.dtype)) + self.pool(pooled)
        return self.f(h) + prompt.mean(1)


@dataclasses.dataclass
class Output(collections.OrderedDict):
    """As diffusers' and transformers' outputs: a dict whose fields are attributes too."""

    sample: object = None
    other: object = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


def answering(wrap):
    """A module that returns ``wrap(out)``."""
    return lambda: Doubling(lambda net, x, t: wrap(net.f(x) + 1e-3 * t[:, None]))


def several(out):
    return {"sample": out, "logvar": out * 2.0}


def mask(dtype, **fields):
    return Condition(name="mask", dtype=dtype, shape=(TOKENS,), **fields)


def context():
    return Condition(name="context", shape=(TOKENS, 4), null=0.0)


def crossed(dtype, **fields):
    return lambda: (context(), mask(dtype, **fields))


INT = {"classes": 2, "null": 1}
ROWS = np.array(
    [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0]]
)
EMPTY = ROWS * np.array([[1], [0], [1], [0], [1]])
VIEWS = ("view", "linear", "cos", "out", "val_0", "add")
STATE = (6, WIDTH)


def attends(name, dtype, bias, rows, **fields):
    """Cross-attention under a mask condition of a dtype."""
    return Animal(name=name, build=lambda: Cross(bias), shape=STATE,
                  conditions=crossed(dtype, **fields),
                  inputs={"mask": rows})  # fmt: skip


CONDITIONS = (
    Animal(name="a class label", build=Labelled, conditions=lambda: (
        Condition(name="label", dtype="int64", classes=5, null=4),)),
    Animal(name="token ids, int64", build=Tokens, conditions=lambda: (
        Condition(name="ids", dtype="int64", shape=(TOKENS,), classes=11, null=0),)),
    Animal(name="token ids, int32", build=Tokens, conditions=lambda: (
        Condition(name="ids", dtype="int32", shape=(TOKENS,), classes=11, null=0),)),
    attends("an int mask", "int64", bool_bias, ROWS, **INT),
    attends("an int mask, rows of which are empty", "int64", bool_bias, EMPTY, **INT),
    attends("an int mask turned into -inf", "int64", infinite_bias, ROWS, **INT),
    attends("an int mask turned into -1e4", "int64", large_bias, ROWS, **INT),
    attends("a float mask turned into -1e4", "float32", large_bias, ROWS.astype(np.float32)),
    attends("a bool mask", "bool", bool_bias, ROWS.astype(bool)),
    attends("a bool mask, rows of which are empty", "bool", bool_bias, EMPTY.astype(bool)),
    Animal(name="a bool mask over written-out attention", build=Masked, shape=(TOKENS, 4),
           conditions=lambda: (mask("bool"),), inputs={"mask": ROWS.astype(bool)}),
    Animal(name="nn.TransformerDecoder, causal", build=Policy, shape=STATE,
           conditions=lambda: (Condition(name="obs", shape=(3, WIDTH)),)),
    Animal(name="a second time", build=Jump, conditions=lambda: (Condition(name="r"),),
           inputs={"r": np.array([999.0, 750.0, 500.0, 3.0, 0.0], np.float32)}),
    Animal(name="a prompt in float16", build=lambda: InDtype(torch.float16), conditions=lambda: (
        Condition(name="prompt", dtype="float16", shape=(4,)),)),
    Animal(name="a prompt in bfloat16", build=lambda: InDtype(torch.bfloat16), conditions=lambda: (
        Condition(name="prompt", dtype="bfloat16", shape=(4,)),)),
    Animal(name="a null prompt, an array", build=TimeAndTokens, conditions=lambda: (
        Condition(name="prompt", shape=(3, 6), null=np.linspace(-1, 1, 18).reshape(3, 6)),
        Condition(name="pooled", shape=(3,), null=0.0))),
    Animal(name="one number as (B, 1)", build=Trailing, conditions=lambda: (
        Condition(name="weight", shape=(1,)),)),
    *(Animal(name=f"a condition named {name!r}", build=Named, conditions=lambda name=name: (
        Condition(name=name, shape=(6,)),)) for name in VIEWS),
    Animal(name="keyword-only inputs", build=KeywordOnly, keywords=True, conditions=lambda: (
        Condition(name="obs", shape=(3,)),)),
    Animal(name="a tuple of one tensor", build=answering(lambda out: (out,))),
    Animal(name="a dict of one tensor", build=answering(lambda out: {"sample": out})),
    Animal(name="an output object of one tensor", build=answering(lambda out: Output(sample=out))),
    Animal(name="a dict of several, by name", build=answering(several),
           options={"output": "sample"}),
    Animal(name="a dict of several, unnamed", build=answering(several),
           refused="sample.*logvar"),
    Animal(name="an integer output", build=answering(lambda out: out.long()), refused="int64"),
    Animal(name="an output of another shape", build=answering(lambda out: out[:, :3]),
           refused="expected"),
)  # fmt: skip
