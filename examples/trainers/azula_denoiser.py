"""A denoiser of azula: its backbone, with the preconditioning that it was trained in.

Copy this file, load your checkpoint in ``build``, and run

    revstep export azula_denoiser:build -o unet.revstep

azula's backbones see c_in x and log(sigma / alpha), and nothing else of the schedule: with c_in =
1 / sqrt(alpha^2 + sigma^2) the state c_in x is variance preserving whatever the schedule. There a
``KarrasDenoiser`` is EDM's preconditioning of data of spread 1, and a ``SimpleDenoiser`` predicts
x0. So its schedule is only a list of levels sigma / alpha here.
"""

from typing import Any

import azula.denoise
import azula.nn.unet
import azula.noise
import azula.sample
import torch
from azula.nn.layers import SineEncoding

import revstep


class Backbone(torch.nn.Module):
    """(x, log(alpha^2 / sigma^2), conditions) -> EDM's F, or x0."""

    def __init__(self, denoiser: azula.denoise.Denoiser, names: list[str]) -> None:
        super().__init__()
        self.backbone, self.names = denoiser.backbone, names

    def forward(self, x: torch.Tensor, log_snr: torch.Tensor, *values: Any) -> torch.Tensor:
        """The prediction (B, ...)."""
        conditions = dict(zip(self.names, values, strict=True))
        return self.backbone(x, -0.5 * log_snr, **conditions)


def from_denoiser(
    denoiser: azula.denoise.Denoiser,
    shape: tuple[int, ...],
    conditions: tuple[revstep.Condition, ...] = (),
) -> tuple[torch.nn.Module, revstep.DenoiserSpec]:
    """The (network, spec) of a ``KarrasDenoiser`` or a ``SimpleDenoiser``.

    Args:
        denoiser: With a backbone of float32 weights.
        shape: Of one sample.
        conditions: The keyword arguments that the backbone takes, by their names.

    Raises:
        ValueError: Another denoiser.
    """
    kinds = {azula.denoise.KarrasDenoiser: "edm", azula.denoise.SimpleDenoiser: "sample"}
    if type(denoiser) not in kinds:
        raise ValueError(
            f"{type(denoiser).__name__} is neither a KarrasDenoiser nor a SimpleDenoiser: export "
            "its backbone with a spec of your own"
        )
    alpha, sigma = denoiser.schedule(torch.linspace(0, 1, 1000, dtype=torch.float64))
    spec = revstep.DenoiserSpec(
        shape=shape,
        schedule=revstep.schedules.VPSchedule.from_sigmas((sigma / alpha).tolist()),
        prediction=kinds[type(denoiser)],
        sigma_data=1.0,
        time=revstep.TimeInput(kind="log_snr"),
        conditions=conditions,
    )
    return Backbone(denoiser, [c.name for c in conditions]), spec


def own_grid(sampler: azula.sample.Sampler) -> revstep.grids.TimeGrid:
    """The levels of azula's sampler, which ends in its schedule's sigma_min rather than in 0."""
    alpha, sigma = sampler.denoiser.schedule(sampler.timesteps.double())
    return revstep.grids.TimeGrid(sigmas=(sigma / alpha).tolist(), stop=True)


class UNet(torch.nn.Module):
    """A backbone as azula's tutorials have it: a U-Net under an encoding of the time."""

    def __init__(self, channels: int = 1, features: int = 16) -> None:
        super().__init__()
        self.encode = SineEncoding(features)
        self.unet = azula.nn.unet.UNet(
            channels, channels, hid_channels=(8, 16), hid_blocks=(1, 1), mod_features=features
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The backbone's output for states (B, C, H, W) and times (B,)."""
        return self.unet(x, self.encode(t))


def build() -> tuple[torch.nn.Module, revstep.DenoiserSpec]:
    """Your network and its spec, for ``revstep export``."""
    denoiser = azula.denoise.KarrasDenoiser(UNet(), azula.noise.CosineSchedule())
    # denoiser.load_state_dict(torch.load("denoiser.pt", weights_only=True))
    return from_denoiser(denoiser.eval(), (1, 16, 16))
