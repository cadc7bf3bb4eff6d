"""A diffusion policy with its observation encoder, from raw observations to raw actions.

Put your own policy in the place of ``diffusion_policy_network``, and run

    revstep export diffusion_policy:build -o policy.revstep

    engine = revstep.load("policy.revstep")
    plan = engine.sample(1, steps=16, inputs={"image": image, "state": state}).numpy()

The encoder runs once a plan and the U-Net once a step. The spec names the scheduler's own run: the
DDIM of diffusers clips x0 and keeps the network's noise, which DDIM here takes from the clipped x0.
"""

import torch
from diffusion_policy_network import ACTIONS, HORIZON, OBSERVATIONS, PIXELS, STATES, Policy
from torch import nn

import revstep
from revstep.export import Checkpoint, read_scheduler


class Denoiser(nn.Module):
    """The U-Net with its condition by position."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, t: torch.Tensor, observation: torch.Tensor) -> torch.Tensor:
        """The predicted noise (B, 16, 2)."""
        return self.model(x, t, global_cond=observation)


class RawActions(nn.Module):
    """Actions in -1 .. 1 to raw ones: the inverse of the training's normalizer."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.register_buffer("scale", policy.action_scale)
        self.register_buffer("offset", policy.action_offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 16, 2)."""
        return (x - self.offset) / self.scale


def from_policy(policy: Policy) -> Checkpoint:
    """The U-Net, its encoder, and the scaling of actions as one bundle's parts."""
    config = {**policy.scheduler.config, "_class_name": type(policy.scheduler).__name__}
    read = read_scheduler(config)
    width = OBSERVATIONS * (policy.encoder.features + STATES)
    image = revstep.Condition(name="image", shape=(OBSERVATIONS, 3, PIXELS, PIXELS))
    state = revstep.Condition(name="state", shape=(OBSERVATIONS, STATES))
    observation = revstep.Encoder(
        name="observation", inputs=(image, state), conditions=("observation",)
    )
    spec = revstep.DenoiserSpec(
        shape=(HORIZON, ACTIONS),
        time=revstep.TimeInput(kind=read.time_kind),
        conditions=(revstep.Condition(name="observation", shape=(width,)),),
        encoders=(observation,),
        decoder=revstep.Decoder(shape=(HORIZON, ACTIONS)),
        sampler=read.choice,
        **read.spec_fields,
    )
    return Checkpoint(
        module=Denoiser(policy.model),
        spec=spec,
        encoders={"observation": policy.encoder},
        decoder=RawActions(policy),
    )


def build() -> Checkpoint:
    """Your policy and its spec, for ``revstep export``."""
    policy = Policy()
    # policy.load_state_dict(torch.load("policy.ckpt", weights_only=True))
    return from_policy(policy.eval())
