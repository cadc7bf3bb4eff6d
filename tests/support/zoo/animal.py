"""One module of the zoo, its spec, and what export must do with it."""

import dataclasses
from collections.abc import Callable, Mapping

import torch

from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule

BOUNDS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}  # of one pass, as parity has them
PRECISIONS = tuple(BOUNDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Animal:
    """A small module of one kind.

    Attributes:
        name: Of the kind.
        build: Makes the module; its weights are the same every time.
        shape: Of a sample.
        conditions: Makes the spec's conditions, after x and t.
        spec: Further fields of the spec.
        options: Of ``export_module``.
        refused: Export refuses it in every precision, in words that match this.
        refused_in: The same for some precisions.
        oracle: ``float64``: a copy whose parameters and buffers are float64; ``given``: the module
            as it is, where float64 weights would mean something else.
        keywords: Its forward takes all but the state by name.
        bounds: Precision -> largest error, where the module itself is of few bits.
        inputs: name -> values (rows, *shape) of a condition, where random ones are not the point.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    shape: tuple[int, ...] = (6,)
    conditions: Callable[[], tuple[object, ...]] = tuple
    spec: Mapping[str, object] = dataclasses.field(default_factory=dict)
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    refused: str | None = None
    refused_in: Mapping[str, str] = dataclasses.field(default_factory=dict)
    oracle: str = "float64"
    keywords: bool = False
    bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    inputs: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def refusal(self, precision: str) -> str | None:
        """What the refusal's words match, or None where export takes it."""
        return self.refused or self.refused_in.get(precision)

    def bound(self, precision: str) -> float:
        """The largest error that is right, relative to the output's RMS."""
        return self.bounds.get(precision, BOUNDS[precision])

    def make(self) -> torch.nn.Module:
        """The module."""
        torch.manual_seed(7)
        return self.build()

    def describe(self) -> DenoiserSpec:
        """Its spec."""
        fields = {"schedule": VPSchedule(), "prediction": "epsilon", **self.spec}
        return DenoiserSpec(shape=self.shape, conditions=self.conditions(), **fields)


def embed(t: torch.Tensor, width: int) -> torch.Tensor:
    """Sinusoids (B, width) of t (B,), in t's dtype."""
    rates = torch.exp(-9.2 * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
