"""Kinds of parameters and buffers: how they are made, and of which dtype they are."""

import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from zoo.animal import Animal


class Plain(nn.Module):
    """Two linear layers, with the time added between them; ``make`` makes the first."""

    def __init__(self, make=lambda: nn.Linear(6, 6), last=lambda: nn.Linear(6, 6)):
        super().__init__()
        self.first, self.last = make(), last()

    def forward(self, x, t):
        return self.last(torch.tanh(self.first(x) + 1e-3 * t[:, None]))


class Buffers(Plain):
    """A buffer of each dtype that PyTorch's own layers keep, all of them used."""

    def __init__(self):
        super().__init__()
        self.register_buffer("in_half", torch.rand(6).half())
        self.register_buffer("in_bfloat16", torch.rand(6).bfloat16())
        self.register_buffer("in_float", torch.rand(6))
        self.register_buffer("in_double", torch.rand(6, dtype=torch.float64))
        self.register_buffer("picked", torch.tensor([True, False, True, True, False, True]))
        for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64):
            name = f"in_{str(dtype).removeprefix('torch.')}"
            self.register_buffer(name, torch.arange(6).to(dtype), persistent=False)

    def forward(self, x, t):
        scale = (self.in_half + self.in_bfloat16 + self.in_float + self.in_double).to(x.dtype)
        whole = self.in_int8 + self.in_uint8 + self.in_int16 + self.in_int32 + self.in_int64
        out = super().forward(torch.where(self.picked, x * scale, x), t)
        return out[:, self.in_int64.flip(0)] + 0.1 * whole.to(x.dtype)


class ComplexBuffer(nn.Module):
    """Rotary positions as a complex buffer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(8, 8)
        self.register_buffer("turn", torch.polar(torch.ones(4), torch.arange(4.0) + 0.3))

    def forward(self, x, t):
        pairs = torch.view_as_complex(x.reshape(-1, 4, 4, 2))
        turned = torch.view_as_real(pairs * self.turn).reshape(x.shape)
        return self.scale(turned) + 1e-3 * t[:, None, None]


class DoubleTable(Plain):
    """Phases that float32 would round: large multiples of 2 pi, computed in float64."""

    def __init__(self):
        super().__init__()
        self.register_buffer("phase", 1e8 * torch.pi + torch.arange(6, dtype=torch.float64))

    def forward(self, x, t):
        return super().forward(x, t) + torch.sin(self.phase).to(x.dtype)


class HalfWeights(nn.Module):
    """Weights kept in half, used in the input's dtype."""

    def __init__(self, dtype):
        super().__init__()
        self.w = nn.Parameter(0.4 * torch.randn(6, 6).to(dtype))

    def forward(self, x, t):
        return torch.tanh(x @ self.w.to(x.dtype).T) + 1e-3 * t[:, None]


class HalfLayers(nn.Module):
    """Layers in half with casts around them, as mixed-precision networks are written."""

    def __init__(self, dtype):
        super().__init__()
        self.f = nn.Linear(6, 6).to(dtype)

    def forward(self, x, t):
        return self.f(x.to(self.f.weight.dtype)).to(x.dtype) + 1e-3 * t[:, None]


class Tied(Plain):
    """One weight under two names."""

    def __init__(self):
        super().__init__()
        self.last.weight = self.first.weight


class Lazy(Plain):
    """Lazy layers, whose weights the first call made."""

    def __init__(self):
        super().__init__(lambda: nn.LazyLinear(6), lambda: nn.LazyLinear(6))
        self(torch.zeros(2, 6), torch.zeros(2))


class Trained(nn.Module):
    """A layer with running statistics, after some training."""

    def __init__(self, make):
        super().__init__()
        self.norm, self.f = make(), nn.Linear(6, 6)
        for _ in range(3):
            self.norm(2.0 * torch.randn(16, 6) + 1.0)

    def forward(self, x, t):
        return self.f(self.norm(x)) + 1e-3 * t[:, None]


def spectral():
    layer = parametrizations.spectral_norm(nn.Linear(6, 6))
    for _ in range(5):
        layer(torch.randn(4, 6))
    return layer


def old_spectral():
    layer = nn.utils.spectral_norm(nn.Linear(6, 6))
    for _ in range(5):
        layer(torch.randn(4, 6))
    return layer


def quantised():
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's deprecation, a UserWarning, once a process
        weight = torch.quantize_per_tensor(torch.randn(6, 6), 0.05, 0, torch.qint8)
    net = Plain()
    net.register_buffer("q", weight)
    net.forward = lambda x, t: x @ net.q.dequantize() + 1e-3 * t[:, None]
    return net


class Float8(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 6).to(torch.float8_e4m3fn), requires_grad=False)

    def forward(self, x, t):
        return x @ self.w.to(x.dtype) + 1e-3 * t[:, None]


def weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls the older one deprecated
        return weight_norm(nn.Linear(6, 6))


WEIGHTS = (
    Animal(name="linear layers", build=Plain),
    Animal(name="parametrised weight norm",
           build=lambda: Plain(lambda: parametrizations.weight_norm(nn.Linear(6, 6)))),
    Animal(name="weight norm by hooks", build=lambda: Plain(weight_normed)),
    Animal(name="parametrised spectral norm", build=lambda: Plain(spectral)),
    Animal(name="spectral norm by hooks", build=lambda: Plain(old_spectral)),
    Animal(name="orthogonal weights",
           build=lambda: Plain(lambda: parametrizations.orthogonal(nn.Linear(6, 6))),
           refused="matrix_exp"),
    Animal(name="lazy layers", build=Lazy),
    Animal(name="tied weights", build=Tied),
    Animal(name="half weights, cast in forward", build=lambda: HalfWeights(torch.float16)),
    Animal(name="bfloat16 weights, cast in forward", build=lambda: HalfWeights(torch.bfloat16)),
    Animal(name="half layers inside", build=lambda: HalfLayers(torch.float16),
           bounds={"fp32": 2e-3}),
    Animal(name="a float64 module", build=lambda: Plain().double()),
    Animal(name="a float64 table", build=DoubleTable),
    Animal(name="a complex buffer", build=ComplexBuffer, shape=(4, 8)),
    Animal(name="buffers of every dtype", build=Buffers),
    Animal(name="BatchNorm in eval", build=lambda: Trained(lambda: nn.BatchNorm1d(6))),
    Animal(name="BatchNorm that was training", build=lambda: Trained(
        lambda: nn.BatchNorm1d(6)).train()),
    Animal(name="a quantised tensor", build=quantised, refused="quanti"),
    Animal(name="fp8 weights", build=Float8, refused="(?i)float8|fp8"),
)  # fmt: skip
