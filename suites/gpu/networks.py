"""The three denoisers of the whole runs: a robot policy, a CIFAR U-Net, the bundled denoiser."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import VPSchedule
from suites.gpu.context import Missing, Run
from suites.gpu.policy import PolicyUnet

FASHION = "examples/fashion_mnist_unet"

POLICY = DenoiserSpec(
    shape=(16, 7),
    schedule=VPSchedule(steps=100, betas="squaredcos_cap_v2"),
    prediction="epsilon",
    name="actions",
    time=TimeInput(name="k"),
    conditions=(Condition(name="observation", shape=(132,), null=0.0),),
    value_range=(-1.0, 1.0),
    clip=True,
)
CIFAR = DenoiserSpec(
    shape=(3, 32, 32),
    schedule=VPSchedule(),
    prediction="epsilon",
    time=TimeInput(name="timestep", fractions=True),
    value_range=(-1.0, 1.0),
    clip=True,
)


@dataclasses.dataclass(frozen=True)
class Network:
    """A denoiser to measure.

    Attributes:
        name: Short, for the rows' names.
        what: What it is, for the rows' parameters: never the name of what it is not.
        module: float32, in eval mode, on the CPU.
        spec: Its spec.
    """

    name: str
    what: str
    module: torch.nn.Module
    spec: DenoiserSpec

    @property
    def parameters(self) -> dict[str, Any]:
        """For the rows."""
        count = sum(p.numel() for p in self.module.parameters())
        return {"network": self.what, "weights": count, "shape": list(self.spec.shape)}


def make_network(run: Run, name: str) -> Network:
    """One of ``NETWORKS``, with the same weights every time; tiny ones in a dry run.

    Raises:
        KeyError: Another name.
        Missing: It is one of diffusers', which is not installed.
    """
    torch.manual_seed(3)
    what, module, spec = NETWORKS[name](run)
    with torch.no_grad():  # what starts at zero would hide half of a network
        for p in module.parameters():
            if not p.any():
                p.normal_(std=0.02)
    return Network(name, what, module.eval(), spec)


def conditions_for(spec: DenoiserSpec, batch: int) -> dict[str, NDArray[Any]]:
    """Conditions of ``batch`` samples: classes in turn, and small numbers."""
    found: dict[str, NDArray[Any]] = {}
    for c in spec.conditions:
        if c.classes is not None:
            found[c.name] = np.arange(batch) % (c.classes - 1)
        else:
            shape = (batch, *c.shape)
            found[c.name] = np.random.default_rng(0).uniform(-1, 1, shape).astype(c.interface)
    return found


def _policy(run: Run) -> tuple[str, torch.nn.Module, DenoiserSpec]:
    widths = run.pick((256, 512, 1024), (8, 16, 24))
    actions, observation = POLICY.shape[1], POLICY.conditions[0].shape[0]
    module = PolicyUnet(actions, observation, widths)
    return f"1-D conditional U-Net as diffusion policies use, widths {widths}", module, POLICY


def _cifar(run: Run) -> tuple[str, torch.nn.Module, DenoiserSpec]:
    library = _diffusers()
    from revstep.export.sources.diffusers.modules import UNetModule

    blocks = run.pick((128, 256, 256, 256), (32, 32, 32, 32))
    side = run.pick(32, 16)
    network = library.UNet2DModel(
        sample_size=side, in_channels=3, out_channels=3, block_out_channels=blocks,
        layers_per_block=run.pick(2, 1), downsample_padding=0, flip_sin_to_cos=False,
        freq_shift=1, norm_eps=1e-6, attention_head_dim=None,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    what = f"google/ddpm-cifar10-32 configuration{' made tiny' if run.dry else ''}, random weights"
    spec = dataclasses.replace(CIFAR, shape=(3, side, side))
    return f"{what}; {_version(library)}", UNetModule(network), spec


def _fashion(run: Run) -> tuple[str, torch.nn.Module, DenoiserSpec]:
    library = _diffusers()
    from revstep.export import load_diffusers

    module, spec = load_diffusers(run.suite.root / FASHION, null_class=10)
    return f"{FASHION}, its weights; {_version(library)}", module, spec


NETWORKS: dict[str, Callable[[Run], tuple[str, torch.nn.Module, DenoiserSpec]]] = {
    "policy": _policy,
    "cifar": _cifar,
    "fashion": _fashion,
}


def _diffusers() -> Any:
    if importlib.util.find_spec("diffusers") is None:
        raise Missing("diffusers is not installed")
    import diffusers

    return diffusers


def _version(library: Any) -> str:
    return f"diffusers {library.__version__} UNet2DModel"
