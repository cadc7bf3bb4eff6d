"""A diffusion of denoising-diffusion-pytorch, taken whole: network, objective, noise levels.

Copy this file, load your checkpoint in ``build``, and run

    revstep export denoising_diffusion:build -o unet.revstep

The spec names the library's own sampler; with ``own_sampling`` the engine takes the steps of its
``sample``; any other sampler and number of steps may run too. Pictures are in -1 .. 1, where the
library's own are in 0 .. 1 (its ``auto_normalize``); it clips to -1 .. 1 either way.
"""

from typing import Any

import denoising_diffusion_pytorch as ddp
import torch

import revstep
from revstep import SamplerChoice

PREDICTIONS = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}
Diffusion = ddp.GaussianDiffusion | ddp.GaussianDiffusion1D


def from_gaussian_diffusion(diffusion: Diffusion) -> tuple[torch.nn.Module, revstep.DenoiserSpec]:
    """The (network, spec) of a ``GaussianDiffusion`` or a ``GaussianDiffusion1D``.

    Raises:
        ValueError: Self-conditioning, or another class: what it does is another process.
    """
    _check(diffusion, ddp.GaussianDiffusion, ddp.GaussianDiffusion1D)
    if isinstance(diffusion, ddp.GaussianDiffusion):
        shape = (diffusion.channels, *diffusion.image_size)
    else:
        shape = (diffusion.channels, diffusion.seq_length)
        shape = shape if diffusion.channel_first else shape[::-1]
    # sigma / alpha at every index, as trained: its sigmoid is no schedule of a name elsewhere
    levels = diffusion.sqrt_recipm1_alphas_cumprod.tolist()
    spec = revstep.DenoiserSpec(
        shape=shape,
        schedule=revstep.schedules.VPSchedule.from_sigmas(levels),
        prediction=PREDICTIONS[diffusion.objective],
        value_range=(-1, 1),
        clip=True,
        sampler=_own_sampler(diffusion),
    )
    return diffusion.model, spec


def _own_sampler(diffusion: Diffusion) -> SamplerChoice:
    if not diffusion.is_ddim_sampling:
        return SamplerChoice("ddpm")
    # GaussianDiffusion1D clips x0 without taking the noise anew from it, where noise is predicted
    keeps = isinstance(diffusion, ddp.GaussianDiffusion1D) and diffusion.objective == "pred_noise"
    epsilon = "keep" if keeps else "rederive"
    return SamplerChoice("ddim", {"eta": diffusion.ddim_sampling_eta, "epsilon": epsilon})


def own_sampling(diffusion: Diffusion) -> dict[str, Any]:
    """What ``engine.sample`` takes for the steps of ``diffusion.sample``."""
    total, steps = diffusion.num_timesteps, diffusion.sampling_timesteps
    if not diffusion.is_ddim_sampling:
        return {"steps": total}
    times = torch.linspace(-1, total - 1, steps + 1).int().flip(0).tolist()  # cut, not rounded
    return {"grid": revstep.grids.TimeGrid(times=times)}


def from_elucidated(diffusion: ddp.ElucidatedDiffusion) -> tuple[torch.nn.Module, Any]:
    """The (network, spec) of an ``ElucidatedDiffusion``: EDM, its churn too."""
    _check(diffusion, ddp.ElucidatedDiffusion)
    churn = {
        "churn": diffusion.S_churn,
        "low": diffusion.S_tmin,
        "high": diffusion.S_tmax,
        "scale": diffusion.S_noise,
    }
    spec = revstep.DenoiserSpec.edm(
        shape=(diffusion.channels, diffusion.image_size, diffusion.image_size),
        sigma_data=diffusion.sigma_data,
        sigma_min=diffusion.sigma_min,
        sigma_max=diffusion.sigma_max,
        rho=diffusion.rho,
        value_range=(-1, 1),
        clip=True,
        sampler=SamplerChoice("edm", churn),
    )
    return diffusion.net, spec


def _check(diffusion: Any, *allowed: type) -> None:
    if type(diffusion) not in allowed:
        names = ", ".join(cls.__name__ for cls in allowed)
        raise ValueError(
            f"{type(diffusion).__name__} is another process than {names}: write its spec yourself"
        )
    if diffusion.self_condition:
        raise ValueError(
            "self-conditioning feeds the last step's estimate of x0 back into the network, which "
            "no row of a step table does; left out, the result is another (0.75 off at a spread "
            "of 0.73): train with self_condition=False"
        )


def build() -> tuple[torch.nn.Module, revstep.DenoiserSpec]:
    """Your network and its spec, for ``revstep export``."""
    unet = ddp.Unet(dim=16, dim_mults=(1, 2), channels=1)
    diffusion = ddp.GaussianDiffusion(unet, image_size=16, sampling_timesteps=50)
    # diffusion.load_state_dict(torch.load("model-10.pt", weights_only=True)["model"])
    return from_gaussian_diffusion(diffusion.eval())
