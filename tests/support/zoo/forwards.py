"""Kinds of forward: hooks, patches, state kept between calls, control flow, dtypes inside."""

import types

import torch
from torch import nn
from torch.nn import functional

from zoo.animal import Animal, embed
from zoo.weights import Plain


class Doubling(nn.Module):
    """Work is ``change(module, x, t)`` over two linear layers."""

    def __init__(self, change):
        super().__init__()
        self.f, self.g = nn.Linear(6, 6), nn.Linear(6, 6)
        self.change = change

    def forward(self, x, t):
        return self.change(self, x, t)


def hooked():
    net = Plain()
    net.first.register_forward_hook(lambda module, args, out: out * 1.5)
    net.last.register_forward_pre_hook(lambda module, args: (args[0] + 0.25,))
    return net


def patched():
    net = Plain()

    def forward(self, x, t):
        return self.last(functional.silu(self.first(x))) - 1e-3 * t[:, None]

    net.forward = types.MethodType(forward, net)
    return net


class Caching(Plain):
    """A table made at the first call and kept."""

    def __init__(self):
        super().__init__()
        self.table = None

    def forward(self, x, t):
        if self.table is None:
            self.table = torch.linspace(-1.0, 1.0, 6)
        return super().forward(x, t) * self.table.to(x.dtype)


class Counting(Plain):
    """A buffer that every call changes, and none reads."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x, t):
        self.calls += 1
        return super().forward(x, t)


def in_place(net, x, t):
    x += 1.0
    x.mul_(0.5)
    t.mul_(1e-3)
    return net.f(x) + t[:, None]


def in_place_inside(net, x, t):
    h = net.f(x)
    h[:, 2:4] = 0.0
    h[:, :1].add_(t[:, None] * 1e-3)
    return net.g(h.relu_())


class Dropping(Plain):
    """Dropout and stochastic depth, given in train mode."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x, t):
        h = self.drop(torch.tanh(self.first(x)))
        h = functional.dropout(h, 0.5, training=self.training)
        if self.training and torch.rand(()) < 0.5:
            h = h * 0.0
        return self.last(h) + 1e-3 * t[:, None]


def constant_flow(net, x, t):
    for layer in (net.f, net.g):
        x = torch.tanh(layer(x)) if layer.bias is not None else layer(x)
    return x + 1e-3 * t[:, None] if x.shape[1] == 6 else x


def value_flow(net, x, t):
    return net.f(x) if x[0, 0] > -1e30 else net.g(x)


def where_flow(net, x, t):
    return torch.where((t > 500.0)[:, None], net.f(x), net.g(x))


def item_flow(net, x, t):
    return net.f(x) * float(x.abs().max())


def fft(net, x, t):
    spectrum = torch.fft.rfft(net.f(x))
    kept = torch.complex(spectrum.real, 0.5 * spectrum.imag)
    return torch.fft.irfft(kept, n=6) + 1e-3 * t[:, None]


def autocast(net, x, t):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = net.f(x)
    return net.g(h.float()) + 1e-3 * t[:, None]


def autocast_off(net, x, t):
    with torch.autocast("cpu", enabled=False):
        return net.g(net.f(x)) + 1e-3 * t[:, None]


def half_inside(net, x, t):
    return net.f(x.half().to(x.dtype)) + 1e-3 * t[:, None]


def double_inside(net, x, t):
    phase = torch.sin(t.double()[:, None] * 1e4 + torch.arange(6, dtype=torch.float64))
    return net.f(x) + phase.to(x.dtype)


def stack_promotion(net, x, t):
    wave = torch.sin(t.float()[:, None] * torch.arange(1.0, 7.0) * 1e-3)
    return net.g(torch.stack([net.f(x), wave], 1).sum(1).to(net.g.weight.dtype))


def squeeze_noop(net, x, t):
    return net.f(x).squeeze(1) + 1e-3 * t[:, None]


def no_grad(net, x, t):
    with torch.no_grad():
        h = net.f(x)
    return net.g(h.detach()) + 1e-3 * t[:, None]


def checkpointed(net, x, t):
    from torch.utils.checkpoint import checkpoint

    return checkpoint(net.f, x, use_reentrant=False) + 1e-3 * t[:, None]


class TimeEmbedding(nn.Module):
    """Sinusoids written by hand, which stay float32 where the weights are half."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 6))
        self.f, self.g = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x, t):
        return self.g(torch.tanh(self.f(x) + self.time(embed(t, 16))))


class WholeTimes(Plain):
    """A learned table of the times, looked up by the rounded time."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(1000, 6)

    def forward(self, x, t):
        return super().forward(x, t) + self.table(t.round().long())


def changed(change):
    return lambda: Doubling(change)


FORWARDS = (
    Animal(name="forward hooks", build=hooked),
    Animal(name="a patched forward", build=patched),
    Animal(name="a table cached by the first call", build=Caching, oracle="given"),
    Animal(name="a counter of calls", build=Counting),
    Animal(name="in-place work on the inputs", build=changed(in_place)),
    Animal(name="in-place work inside", build=changed(in_place_inside)),
    Animal(name="dropout, in train mode", build=lambda: Dropping().train()),
    Animal(name="control flow on constants", build=changed(constant_flow)),
    Animal(name="control flow on values", build=changed(value_flow), refused="branches on"),
    Animal(name="a choice by torch.where", build=changed(where_flow)),
    Animal(name="a number taken by item()", build=changed(item_flow), refused="depend|branch|item"),
    Animal(name="an FFT", build=changed(fft)),
    Animal(name="autocast inside", build=changed(autocast), refused="(?i)autocast"),
    Animal(name="autocast switched off inside", build=changed(autocast_off)),
    Animal(name="half inside", build=changed(half_inside), oracle="given"),
    Animal(name="float64 phases inside", build=changed(double_inside)),
    Animal(name="a stack of two dtypes", build=changed(stack_promotion)),
    Animal(name="a squeeze that does nothing", build=changed(squeeze_noop)),
    Animal(name="no_grad and detach", build=changed(no_grad)),
    Animal(name="checkpointing", build=changed(checkpointed)),
    Animal(name="a hand-written time embedding", build=TimeEmbedding),
    Animal(name="a table of whole times", build=WholeTimes, spec={"batch": (1, 16)}),
    Animal(name="random numbers", build=changed(lambda n, x, t: n.f(x) + torch.rand(6)),
           refused="two different outputs"),
    Animal(name="rows that are mixed", build=changed(lambda n, x, t: n.f(x - x.mean(0))),
           refused="rows depend on each other"),
    Animal(name="attention over the batch", build=changed(
        lambda n, x, t: torch.softmax(x @ x.T, -1) @ n.f(x)), refused="rows depend on each other"),
    Animal(name="a batch that is baked in", build=changed(
        lambda n, x, t: n.f(x.reshape(2, 6))), refused="not at batch 3"),
    Animal(name="NaN", build=changed(lambda n, x, t: n.f(x) * torch.nan), refused="NaN"),
)  # fmt: skip
