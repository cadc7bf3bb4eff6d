"""The networks that are served, and how much of each is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from revstep.engine.spec.denoiser import DenoiserSpec
from suites.cpu.networks import WHAT, make

if TYPE_CHECKING:
    from torch import nn

    from revstep.engine.engine import Engine

LOADS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.1)  # of the saturation of whole generations
SMALL_WIDTHS = (16, 32, 64)
MLP_WIDTH = 512

Made = tuple["nn.Module", DenoiserSpec]


@dataclasses.dataclass(frozen=True)
class Case:
    """A network under load.

    Attributes:
        name: Of the network.
        what: In words.
        backend: The faster one for it on a CPU (docs/cpu.md).
        make: Makes the module and its spec.
        arrivals: At each of ``LOADS``; a p99 takes 528.
        backlog: Requests of a round at saturation, a multiple of 16.
        rounds: At saturation.
    """

    name: str
    what: str
    backend: str
    make: Callable[[], Made]
    arrivals: tuple[int, ...]
    backlog: int
    rounds: int = 3

    def load(self, folder: Path) -> Engine:
        """The engine of its bundle, on one thread; exported where it isn't there."""
        from revstep.engine.open.bundle import load
        from revstep.export import export_module

        path = folder / f"{self.name}.revstep"
        if not path.exists():
            export_module(*self.make(), path)
        return load(path, backend=self.backend, threads=1)


def _small_policy() -> Made:
    import torch

    from suites.cpu.networks import ACTIONS, OBSERVATION
    from suites.gpu.policy import PolicyUnet

    spec = make("policy", tiny=True)[1]
    torch.manual_seed(3)
    return PolicyUnet(ACTIONS, OBSERVATION, SMALL_WIDTHS).eval(), spec


def _mlp() -> Made:
    import torch

    from revstep.engine.spec.schedule import VPSchedule
    from suites.precision.networks import Mlp

    torch.manual_seed(3)
    spec = DenoiserSpec(
        shape=(24,), schedule=VPSchedule(), prediction="epsilon", value_range=(-1.0, 1.0), clip=True
    )
    return Mlp(MLP_WIDTH).eval(), spec


CASES = (
    Case(
        "policy", WHAT["policy"], "openvino", lambda: make("policy"),
        arrivals=(160, 160, 528, 528, 528, 528), backlog=256,
    ),
    Case(
        "small policy", "the same of widths 16, 32, 64", "openvino", _small_policy,
        arrivals=(800,) * 6, backlog=1600,
    ),
    Case(
        "mlp", "an MLP for tables: four residual blocks of width 512 on 24 columns",
        "onnxruntime", _mlp, arrivals=(1000,) * 6, backlog=3200,
    ),
    Case(
        "unet", WHAT["unet"], "onnxruntime", lambda: make("unet"),
        arrivals=(28, 28, 52, 52, 52, 52), backlog=48, rounds=2,
    ),
)  # fmt: skip
