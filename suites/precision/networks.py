"""Five denoisers that people have, as bundles of all precisions: random weights but for one."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from revstep.engine.bundle.reader import Bundle
from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import VPSchedule
from revstep.export.sources.diffusers.folder import export_diffusers
from revstep.export.sources.module import export_module

ALL = ("fp32", "fp16", "bf16")
FASHION = "examples/fashion_mnist_unet"


class Mlp(nn.Module):
    """A tabular denoiser with the usual hand-written sinusoidal embedding; no casts."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(24, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.last = nn.Linear(width, 24)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Rows (B, 24) and times (B,) to rows."""
        rate = torch.exp(torch.arange(64, device=t.device) * (-math.log(10000.0) / 63))
        angle = t[:, None] * rate
        embedded = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        h = self.first(x)
        for block, norm in zip(self.blocks, self.norms, strict=True):
            h = h + block(nn.functional.silu(norm(h + embedded)))
        out: torch.Tensor = self.last(h)
        return out


class Wrapped(nn.Module):
    """A diffusers network, called by ``call``."""

    def __init__(self, net: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.net = net
        self.call = call

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The network's first output."""
        out: torch.Tensor = self.call(self.net, *inputs)[0]
        return out


def _mlp(path: Path) -> Bundle:
    spec = DenoiserSpec(shape=(24,), schedule=VPSchedule(), prediction="epsilon")
    return _exported(Mlp(), spec, path)


def _fashion(path: Path) -> Bundle:
    return export_diffusers(FASHION, path, precisions=ALL, null_class=10)


def _diffusers() -> Any:
    return importlib.import_module("diffusers")


def _dit(path: Path) -> Bundle:
    net = _diffusers().DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=32, in_channels=4, out_channels=8,
        num_layers=4, sample_size=16, patch_size=2, num_embeds_ada_norm=10,
    )  # fmt: skip
    spec = DenoiserSpec(
        shape=(4, 16, 16), schedule=VPSchedule(), prediction="epsilon", learned_variance=True,
        conditions=(Condition(name="label", dtype="int64", null=10, classes=11),),
    )  # fmt: skip
    return _exported(
        Wrapped(net, lambda f, x, t, c: f(x, timestep=t.long(), class_labels=c, return_dict=False)),
        spec,
        path,
    )


def _policy(path: Path) -> Bundle:
    from suites.gpu.policy import PolicyUnet

    spec = DenoiserSpec(
        shape=(16, 7), schedule=VPSchedule(steps=100, betas="squaredcos_cap_v2"),
        prediction="epsilon", name="actions", time=TimeInput(name="k"),
        conditions=(Condition(name="observation", shape=(32,), null=0.0),),
    )  # fmt: skip
    return _exported(PolicyUnet(7, 32, (64, 128, 256)), spec, path)


def _stable(path: Path) -> Bundle:
    net = _diffusers().UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=32,
        attention_head_dim=4,
    )  # fmt: skip
    spec = DenoiserSpec(
        shape=(4, 16, 16), schedule=VPSchedule(betas="scaled_linear"), prediction="epsilon",
        time=TimeInput(fractions=True),
        conditions=(Condition(name="tokens", shape=(8, 32)), Condition(name="mask", shape=(8,))),
    )  # fmt: skip
    return _exported(
        Wrapped(
            net,
            lambda f, x, t, c, m: f(
                x, t, c, encoder_attention_mask=(m > 0).float(), return_dict=False
            ),
        ),
        spec,
        path,
    )


def _exported(module: nn.Module, spec: DenoiserSpec, path: Path) -> Bundle:
    with torch.no_grad():  # what starts at zero would hide half of a network
        for p in module.parameters():
            if not p.any():
                p.normal_(std=0.02)
    return export_module(module.eval(), spec, path, precisions=ALL)


def make(name: str, path: Path) -> Bundle:
    """The bundle of one of ``NETWORKS`` in every precision, with the same weights every time."""
    torch.manual_seed(3)
    return NETWORKS[name](path)


NETWORKS: dict[str, Callable[[Path], Bundle]] = {
    "MLP": _mlp,
    "Fashion-MNIST U-Net": _fashion,
    "DiT": _dit,
    "policy 1-D U-Net": _policy,
    "conditional U-Net": _stable,
}
