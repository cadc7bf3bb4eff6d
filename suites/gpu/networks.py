"""The three denoisers of the whole runs: a robot policy, a CIFAR U-Net, the bundled denoiser."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import VPSchedule
from suites.gpu.context import Run

if TYPE_CHECKING:
    import torch

__all__ = ["NETWORKS", "Network", "conditions_for", "make_network"]

WEIGHTS = "examples/fashion_mnist_unet/unet/diffusion_pytorch_model.fp16.safetensors"
PLAIN = "plain PyTorch with diffusers' operators and names (diffusers is not installed)"
DTYPES = {"F16": "<f2", "F32": "<f4", "I64": "<i8"}

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
FASHION = DenoiserSpec(
    shape=(1, 32, 32),
    schedule=VPSchedule(betas="squaredcos_cap_v2"),
    prediction="v_prediction",
    time=TimeInput(name="timestep", fractions=True),
    conditions=(Condition(name="class_labels", dtype="int64", null=10, classes=11),),
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
    """
    import torch

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
    from suites.gpu.policy import PolicyUnet

    widths = run.pick((256, 512, 1024), (8, 16, 24))
    actions, observation = POLICY.shape[1], POLICY.conditions[0].shape[0]
    module = PolicyUnet(actions, observation, widths)
    return f"1-D conditional U-Net as diffusion policies use, widths {widths}", module, POLICY


def _cifar(run: Run) -> tuple[str, torch.nn.Module, DenoiserSpec]:
    from suites.gpu.unet2d import UNet2dConfig

    config = UNet2dConfig(
        in_channels=3,
        block_out_channels=run.pick((128, 256, 256, 256), (32, 32, 32, 32)),
        layers_per_block=run.pick(2, 1),
        attention=(False, True, False, False),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_num_groups=32,
        norm_eps=1e-6,
    )
    how, module = _unet(config)
    size = "configuration" if not run.dry else "configuration made tiny"
    spec = dataclasses.replace(CIFAR, shape=run.pick((3, 32, 32), (3, 16, 16)))
    return f"google/ddpm-cifar10-32 {size}, random weights; {how}", module, spec


def _fashion(run: Run) -> tuple[str, torch.nn.Module, DenoiserSpec]:
    from suites.gpu.unet2d import UNet2dConfig

    config = UNet2dConfig(
        in_channels=1,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        attention=(False, False, False),
        attention_head_dim=32,
        downsample_padding=1,
        flip_sin_to_cos=True,
        freq_shift=0,
        norm_num_groups=8,
        norm_eps=1e-5,
        num_class_embeds=11,
    )
    how, module = _unet(config)
    inner: Any = module.network if hasattr(module, "network") else module
    inner.load_state_dict(read_weights(run.suite.root / WEIGHTS))
    return f"examples/fashion_mnist_unet, its weights; {how}", module, FASHION


NETWORKS: dict[str, Callable[[Run], tuple[str, torch.nn.Module, DenoiserSpec]]] = {
    "policy": _policy,
    "cifar": _cifar,
    "fashion": _fashion,
}


def _unet(config: Any) -> tuple[str, torch.nn.Module]:
    """The network of diffusers where diffusers is there, else its plain twin."""
    from suites.gpu.unet2d import UNet2d

    if importlib.util.find_spec("diffusers") is None:
        return PLAIN, UNet2d(config)
    import diffusers

    return f"diffusers {diffusers.__version__} UNet2DModel", DiffusersUnet(config)


def DiffusersUnet(config: Any) -> torch.nn.Module:  # noqa: N802  (a class, made when torch is there)
    """``UNet2DModel`` of a configuration, as a module that returns the tensor."""
    import diffusers
    import torch

    make: Any = diffusers.UNet2DModel
    fields = dataclasses.asdict(config)
    attention = fields.pop("attention")
    names = [("AttnDownBlock2D", "AttnUpBlock2D") if a else ("DownBlock2D", "UpBlock2D")
             for a in attention]  # fmt: skip

    class Unet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = make(
                sample_size=32,
                out_channels=config.in_channels,
                down_block_types=tuple(down for down, _ in names),
                up_block_types=tuple(up for _, up in reversed(names)),
                **fields,
            )

        def forward(
            self, x: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor | None = None
        ) -> torch.Tensor:
            out: torch.Tensor = self.network(x, t, class_labels, return_dict=False)[0]
            return out

    return Unet()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, without that package; float16 becomes float32."""
    import torch

    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[begin:end], np.dtype(DTYPES[entry["dtype"]]))
            found[name] = torch.from_numpy(array.reshape(entry["shape"]).copy())
            if found[name].dtype == torch.float16:
                found[name] = found[name].float()
    return found
