"""The denoisers of the CPU suite, and their bundles: `python -m suites.cpu.networks NAME BUNDLE`.

Random weights, the same every time, but for the bundled U-Net, which is trained.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import VPSchedule

if TYPE_CHECKING:
    from torch import nn

FASHION = Path(__file__).parents[2] / "examples" / "fashion_mnist_unet"
CLIPPED: Any = {"value_range": (-1.0, 1.0), "clip": True}  # as diffusers clips
ACTIONS, OBSERVATION, HORIZON = 7, 20, 16

Made = tuple["nn.Module", DenoiserSpec]


def _mlp(tiny: bool) -> Made:
    import torch
    from torch import nn

    class Mlp(nn.Module):
        """32-256-256-32, the time added in front of the first activation."""

        rate: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(32, 256), nn.Linear(256, 256)
            self.last = nn.Linear(256, 32)
            self.register_buffer("rate", torch.randn(256) / 1000)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            h = nn.functional.silu(self.first(x) + t[:, None] * self.rate)
            out: torch.Tensor = self.last(nn.functional.silu(self.second(h)))
            return out

    return Mlp(), DenoiserSpec(shape=(32,), schedule=VPSchedule(), prediction="epsilon", **CLIPPED)


def _dit(tiny: bool) -> Made:
    from suites.precision.networks import Wrapped

    heads, blocks = (2, 1) if tiny else (4, 6)
    net = importlib.import_module("diffusers").DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=64, in_channels=4, out_channels=4,
        num_layers=blocks, sample_size=16, patch_size=2, num_embeds_ada_norm=10,
    )  # fmt: skip
    spec = DenoiserSpec(
        shape=(4, 16, 16), schedule=VPSchedule(), prediction="epsilon",
        conditions=(Condition(name="label", dtype="int64", null=10, classes=11),), **CLIPPED,
    )  # fmt: skip
    return Wrapped(
        net, lambda f, x, t, c: f(x, timestep=t.long(), class_labels=c, return_dict=False)
    ), spec


def _policy(tiny: bool) -> Made:
    from suites.gpu.policy import PolicyUnet

    spec = DenoiserSpec(
        shape=(HORIZON, ACTIONS), schedule=VPSchedule(steps=100, betas="squaredcos_cap_v2"),
        prediction="epsilon", name="actions", time=TimeInput(name="k"),
        conditions=(Condition(name="observation", shape=(OBSERVATION,), null=0.0),), **CLIPPED,
    )  # fmt: skip
    return PolicyUnet(ACTIONS, OBSERVATION, (8, 16, 24) if tiny else (64, 128, 256)), spec


def _unet(tiny: bool) -> Made:
    from revstep.export import load_diffusers

    return load_diffusers(FASHION, null_class=10)


NETWORKS: dict[str, Callable[[bool], Made]] = {
    "mlp": _mlp,
    "dit": _dit,
    "policy": _policy,
    "unet": _unet,
}
WHAT = {
    "mlp": "MLP 32-256-256-32",
    "dit": "DiT, six blocks of width 256 on 64 tokens",
    "policy": "1-D U-Net of a robot policy, widths 64, 128, 256, horizon 16",
    "unet": "the bundled Fashion-MNIST U-Net",
}


def make(name: str, *, tiny: bool = False) -> Made:
    """One of ``NETWORKS`` in eval mode, with the same weights every time.

    Args:
        name: Its name.
        tiny: A small one of its kind, for trials; the bundled U-Net stays as it is.
    """
    import torch

    torch.manual_seed(3)
    module, spec = NETWORKS[name](tiny)
    with torch.no_grad():  # what starts at zero would hide half of a network
        for p in module.parameters():
            if not p.any():
                p.normal_(std=0.02)
    return module.eval(), spec


def main(arguments: Sequence[str] | None = None) -> None:
    """Export one network."""
    parser = argparse.ArgumentParser(prog="python -m suites.cpu.networks", description=__doc__)
    parser.add_argument("name", choices=list(NETWORKS))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a small one, for trials")
    options = parser.parse_args(arguments)
    from revstep.export import export_module

    module, spec = make(options.name, tiny=options.tiny)
    export_module(module, spec, options.bundle)


if __name__ == "__main__":
    main()
