"""A DiffusionModelUNet of MONAI with the scheduler that it was trained with.

Copy this file, load your checkpoint in ``build``, and run

    revstep export monai_diffusion:build -o unet.revstep

With ``own_sampling`` the engine takes the steps of ``DiffusionInferer.sample`` with a DDIM or a
rectified-flow scheduler; without it any sampler of revstep may run, on grids whose steps arrive
where the next one begins (MONAI's DDIM goes T // N indices down whatever its next call is, and its
DDPM always one index: it needs all T steps).
"""

from typing import Any

import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

import revstep
from revstep.grids import LinspaceGrid, TimeGrid

KEEPS = revstep.SamplerChoice("ddim", {"epsilon": "keep"})  # of the network, whatever is clipped


class Network(torch.nn.Module):
    """(x, t, conditions) -> the output; a condition ``concat`` is further channels of x."""

    def __init__(self, unet: DiffusionModelUNet, names: list[str], flow_steps: int = 0) -> None:
        super().__init__()
        self.unet, self.names, self.flow_steps = unet, names, flow_steps

    def forward(self, x: torch.Tensor, t: torch.Tensor, *values: Any) -> torch.Tensor:
        """What the U-Net predicts (B, C, ...); of flows noise - data, minus MONAI's."""
        inputs = dict(zip(self.names, values, strict=True))
        if "concat" in inputs:
            x = torch.cat([x, inputs.pop("concat")], 1)
        if self.flow_steps:
            return -self.unet(x, self.flow_steps * t, **inputs)
        return self.unet(x, t, **inputs)


def from_monai(
    unet: DiffusionModelUNet,
    scheduler: DDPMScheduler | DDIMScheduler | RFlowScheduler,
    shape: tuple[int, ...],
    conditions: tuple[revstep.Condition, ...] = (),
) -> tuple[torch.nn.Module, revstep.DenoiserSpec]:
    """The (network, spec) of a U-Net and its scheduler.

    Args:
        unet: The network.
        scheduler: With the settings of the training.
        shape: Of one sample: (channels, ...).
        conditions: ``context``, ``class_labels`` (arguments of the U-Net), or ``concat``. For
            ``DiffusionInferer``'s guidance ``null=-1.0``, its ``cfg_fill_value``.

    Raises:
        ValueError: A learned variance, which MONAI interpolates otherwise than the paper.
    """
    names = [c.name for c in conditions]
    if isinstance(scheduler, RFlowScheduler):
        steps = scheduler.num_train_timesteps
        spec = revstep.DenoiserSpec(
            shape=shape,
            schedule=revstep.schedules.FlowSchedule(steps=steps),
            prediction="flow",
            time=revstep.TimeInput(kind="unit", fractions=True),
            conditions=conditions,
            sampler=revstep.SamplerChoice("flow_euler"),
        )
        return Network(unet, names, steps), spec
    if (kind := getattr(scheduler, "variance_type", "fixed_small")).startswith("learned"):
        raise ValueError(
            f"variance_type {kind!r}: MONAI mixes the variances themselves, where Nichol and "
            "Dhariwal (eq. 15) and revstep mix their logarithms"
        )
    spec = revstep.DenoiserSpec(
        shape=shape,
        schedule=revstep.schedules.VPSchedule.from_alphas_cumprod(
            scheduler.alphas_cumprod.tolist()
        ),
        prediction=str(scheduler.prediction_type),
        conditions=conditions,
        value_range=tuple(scheduler.clip_sample_values),
        clip=scheduler.clip_sample,
        sampler=KEEPS if isinstance(scheduler, DDIMScheduler) else None,
    )
    return Network(unet, names), spec


def own_sampling(scheduler: DDIMScheduler | RFlowScheduler) -> dict[str, Any]:
    """What ``engine.sample`` takes for the scheduler's own steps, after its ``set_timesteps``."""
    if isinstance(scheduler, RFlowScheduler):
        times = [*(scheduler.timesteps / scheduler.num_train_timesteps).tolist(), 0.0]
        return {"grid": TimeGrid(sigmas=times)}
    if not isinstance(scheduler, DDIMScheduler):
        raise ValueError("a DDPMScheduler draws noise of its own: sample with a DDIMScheduler")
    return {
        "grid": LinspaceGrid(last=scheduler.steps_offset),
        "steps": scheduler.num_inference_steps,
        "final": "clean" if scheduler.final_alpha_cumprod == 1 else "first",
        "compat": "diffusers",  # t - T // N, as MONAI took it from there
    }


def build() -> tuple[torch.nn.Module, revstep.DenoiserSpec]:
    """Your network and its spec, for ``revstep export``."""
    unet = DiffusionModelUNet(
        spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16), num_res_blocks=1,
        attention_levels=(False, True), norm_num_groups=4, num_head_channels=8,
    )  # fmt: skip
    # unet.load_state_dict(torch.load("unet.pt", weights_only=True))
    scheduler = DDPMScheduler(schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0195)
    return from_monai(unet.eval(), scheduler, (1, 16, 16))
