"""Diffusers folders of tiny random networks, one for each class that is carried, and their loops.

A ``Folder`` says what ``save_pretrained`` writes and how the class's own pipeline calls the
network; ``loop`` runs it with the scheduler, as the oracle of a bundle's run.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import torch

SIGMA_DATA = 0.5  # SCMScheduler's default
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def named(network, x, t, conditions):
    """Most classes take their conditions by name."""
    return network(x, t, **conditions, return_dict=False)[0]


def added(*names):
    """A class that takes some of them as ``added_cond_kwargs``."""

    def call(network, x, t, conditions):
        rest = {name: value for name, value in conditions.items() if name not in names}
        own = {name: conditions[name] for name in names}
        return network(x, timestep=t, **rest, added_cond_kwargs=own, return_dict=False)[0]

    return call


def by_keyword(network, x, t, conditions):
    """A class whose second parameter isn't the time."""
    return network(hidden_states=x, timestep=t, **conditions, return_dict=False)[0]


def latent_consistency(network, x, t, conditions):
    """Guidance as the pipeline embeds it."""
    embed = diffusers.LatentConsistencyModelPipeline.get_guidance_scale_embedding
    own = dict(conditions)
    w = own.pop("guidance") - 1.0
    own["timestep_cond"] = embed(None, w, embedding_dim=network.config.time_cond_proj_dim)
    return named(network, x, t, own)


def sprint(network, x, t, conditions):
    """SANA-Sprint's pipeline: TrigFlow's state and angle to the flow's, and back."""
    own = dict(conditions)
    own["guidance"] = own["guidance"] * network.config.guidance_embeds_scale
    fed = x / SIGMA_DATA
    time = torch.sin(t) / (torch.cos(t) + torch.sin(t))
    s = time.view(-1, 1, 1, 1)
    fed = fed * torch.sqrt(s**2 + (1 - s) ** 2)
    out = by_keyword(network, fed, time, own)
    out = ((1 - 2 * s) * fed + (1 - 2 * s + 2 * s**2) * out) / torch.sqrt(s**2 + (1 - s) ** 2)
    return out * SIGMA_DATA


def flux(network, x, t, conditions):
    """Packed latents and places, as the pipeline makes them."""
    pipe = diffusers.FluxPipeline
    n, c, rows, columns = x.shape
    packed = pipe._pack_latents(x, n, c, rows, columns)
    places = pipe._prepare_latent_image_ids(n, rows // 2, columns // 2, x.device, x.dtype)
    text = torch.zeros(conditions["encoder_hidden_states"].shape[1], 3)
    out = network(
        hidden_states=packed, timestep=t / 1000, img_ids=places, txt_ids=text, **conditions,
        return_dict=False,
    )[0]  # fmt: skip
    return pipe._unpack_latents(out, rows * 8, columns * 8, 8)


@dataclasses.dataclass(frozen=True)
class Folder:
    """One class, its config, its scheduler, and how it is called and drawn with.

    Attributes:
        network: The class of the network.
        config: Its config.
        scheduler: The class of the scheduler.
        settings: The scheduler's.
        shape: Of the state.
        conditions: name -> shape of its conditions that have no null value; labels as numbers.
        known: name -> value of those that the folder knows.
        call: How the class's pipeline calls it.
        arguments: Of ``load_diffusers_checkpoint``.
        place: Where the denoiser lies.
        steps: Of the run.
        learned: Whether half of the output is a variance.
        asked: Further arguments of ``sample``.
        own_sigmas: Whether the pipeline gives the scheduler sigmas, 1, 1 - 1/N, ..., 1/N.
    """

    network: str
    config: dict
    scheduler: str
    settings: dict
    shape: tuple
    conditions: dict = dataclasses.field(default_factory=dict)
    known: dict = dataclasses.field(default_factory=dict)
    call: Callable[..., Any] = named
    arguments: dict = dataclasses.field(default_factory=dict)
    place: str = "unet"
    steps: int = 4
    learned: bool = False
    asked: dict = dataclasses.field(default_factory=dict)
    own_sigmas: bool = False

    def build(self):
        """The network, whose parameters are all random: zeros would hide what they multiply."""
        torch.manual_seed(0)
        network = getattr(diffusers, self.network)(**self.config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.abs().max() == 0.0 or parameter.std() < 1e-3:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return network

    def save(self, root):
        """Writes the folder; returns the network and its scheduler."""
        network = self.build()
        scheduler = getattr(diffusers, self.scheduler)(**self.settings)
        network.save_pretrained(root / self.place)
        scheduler.save_pretrained(root / "scheduler")
        return network, scheduler

    def values(self, rows, seed=1):
        """Conditions of ``rows`` samples."""
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for name, shape in self.conditions.items():
            if isinstance(shape, int):
                found[name] = torch.randint(0, shape, (rows,), generator=generator)
            elif name.endswith("mask"):
                lengths = torch.arange(1, rows + 1)[:, None]
                found[name] = (torch.arange(shape[0])[None] < lengths + 1).long()
            else:
                found[name] = torch.randn(rows, *shape, generator=generator)
        return found

    def loop(self, network, scheduler, noise, conditions, nulls=None, guidance=1.0):
        """The final state of the pipeline's loop."""
        rows = len(noise)
        known = {k: torch.tensor(v).expand(rows, *torch.tensor(v).shape) for k, v in
                 self.known.items()}  # fmt: skip
        if self.own_sigmas:
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / self.steps, self.steps))
        elif self.scheduler == "SCMScheduler":
            scheduler.set_timesteps(self.steps, intermediate_timesteps=None)
        else:
            scheduler.set_timesteps(self.steps)
        x = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
        times = scheduler.timesteps
        if self.scheduler == "SCMScheduler":  # as its pipeline: the last is the end
            x, times = noise * SIGMA_DATA, times[:-1]
        with torch.inference_mode():
            for t in times:
                scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
                fed, times = scale(x, t), t.expand(rows)
                out = self._mean(self.call(network, fed, times, {**conditions, **known}))
                if guidance != 1.0:
                    plain = self._mean(self.call(network, fed, times, {**nulls, **known}))
                    out = plain + guidance * (out - plain)
                x = scheduler.step(out, t, x, return_dict=False)[0]
        return x.numpy()

    def _mean(self, out):
        return out[:, : out.shape[1] // 2] if self.learned else out


TEXT = (5, 16)
UNET = {
    "sample_size": 8, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4,
    "cross_attention_dim": 16, "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
PLAIN_UNET = {
    "sample_size": 8, "in_channels": 3, "out_channels": 3, "layers_per_block": 1,
    "block_out_channels": (8, 16), "norm_num_groups": 4, "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
PIXART = {
    "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8,
    "num_layers": 1, "cross_attention_dim": 16, "sample_size": 8, "caption_channels": 12,
}  # fmt: skip
SANA = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
    "num_layers": 1, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8,
    "cross_attention_dim": 16, "caption_channels": 12, "sample_size": 8,
}  # fmt: skip

FOLDERS = {
    "unet_2d": Folder(
        "UNet2DModel", {**PLAIN_UNET, "num_class_embeds": 5}, "DDIMScheduler",
        {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
        (3, 8, 8), {"class_labels": 5},
        arguments={"null_class": 4},
    ),
    "consistency": Folder(
        "UNet2DModel", PLAIN_UNET, "CMStochasticIterativeScheduler", {}, (3, 8, 8), steps=1,
    ),
    "stable_diffusion": Folder(
        "UNet2DConditionModel", UNET, "PNDMScheduler",
        {**BETAS, "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1},
        (4, 8, 8), {"encoder_hidden_states": TEXT}, arguments={"sequence_length": 5}, steps=6,
    ),
    "stable_diffusion_v": Folder(
        "UNet2DConditionModel",
        {**UNET, "use_linear_projection": True, "attention_head_dim": (2, 4)},
        "EulerDiscreteScheduler",
        {**BETAS, "prediction_type": "v_prediction", "steps_offset": 1}, (4, 8, 8),
        {"encoder_hidden_states": TEXT}, arguments={"sequence_length": 5},
    ),
    "sdxl": Folder(
        "UNet2DConditionModel",
        {**UNET, "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
         "projection_class_embeddings_input_dim": 10 + 6 * 4},
        "EulerDiscreteScheduler", {**BETAS, "timestep_spacing": "leading", "steps_offset": 1},
        (4, 8, 8), {"encoder_hidden_states": TEXT, "text_embeds": (10,)},
        {"time_ids": [64.0, 64.0, 0.0, 0.0, 64.0, 64.0]}, added("text_embeds", "time_ids"),
        {"sequence_length": 5},
    ),
    "latent_consistency": Folder(
        "UNet2DConditionModel", {**UNET, "time_cond_proj_dim": 9}, "LCMScheduler", {},
        (4, 8, 8), {"encoder_hidden_states": TEXT}, {"guidance": 8.5}, latent_consistency,
        {"sequence_length": 5}, steps=1,
    ),
    "dit": Folder(
        "DiTTransformer2DModel",
        {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8,
         "num_layers": 2, "sample_size": 8, "num_embeds_ada_norm": 6},
        "DPMSolverMultistepScheduler", {"beta_schedule": "linear"}, (4, 8, 8),
        {"class_labels": 6}, call=by_keyword, place="transformer", learned=True,
    ),
    "pixart": Folder(
        "PixArtTransformer2DModel", PIXART, "DPMSolverMultistepScheduler", {}, (4, 8, 8),
        {"encoder_hidden_states": (5, 12), "encoder_attention_mask": (5,)}, call=by_keyword,
        arguments={"sequence_length": 5}, place="transformer", learned=True,
    ),
    "pixart_sized": Folder(
        "PixArtTransformer2DModel", {**PIXART, "use_additional_conditions": True,
                                     "num_attention_heads": 3, "cross_attention_dim": 24},
        "DPMSolverMultistepScheduler", {}, (4, 8, 16),
        {"encoder_hidden_states": (5, 12), "encoder_attention_mask": (5,)},
        {"resolution": [64.0, 128.0], "aspect_ratio": [0.5]}, added("resolution", "aspect_ratio"),
        {"sequence_length": 5, "size": (8, 16)}, place="transformer", learned=True,
    ),
    "sd3": Folder(
        "SD3Transformer2DModel",
        {"sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 2,
         "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 12,
         "caption_projection_dim": 16, "pooled_projection_dim": 10, "pos_embed_max_size": 8,
         "dual_attention_layers": (0,), "qk_norm": "rms_norm"},
        "FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, (4, 8, 8),
        {"encoder_hidden_states": (5, 12), "pooled_projections": (10,)}, call=by_keyword,
        arguments={"sequence_length": 5}, place="transformer",
    ),
    "flux": Folder(
        "FluxTransformer2DModel",
        {"in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 12, "pooled_projection_dim": 10,
         "guidance_embeds": True, "axes_dims_rope": (4, 4, 8)},
        "FlowMatchEulerDiscreteScheduler", {"shift": 1.0}, (4, 6, 8),
        {"encoder_hidden_states": (5, 12), "pooled_projections": (10,)}, {"guidance": 3.5},
        flux, {"sequence_length": 5, "size": (6, 8)}, place="transformer", own_sigmas=True,
    ),
    "sana": Folder(
        "SanaTransformer2DModel", SANA, "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
        (4, 8, 8), {"encoder_hidden_states": (5, 12), "encoder_attention_mask": (5,)},
        call=by_keyword, arguments={"sequence_length": 5}, place="transformer",
    ),
    "sana_sprint": Folder(
        "SanaTransformer2DModel", {**SANA, "guidance_embeds": True}, "SCMScheduler", {},
        (4, 8, 8), {"encoder_hidden_states": (5, 12), "encoder_attention_mask": (5,)},
        {"guidance": 4.5}, sprint, {"sequence_length": 5}, place="transformer", steps=1,
        asked={"grid": "trailing"},
    ),
    "unet_1d": Folder(
        "UNet1DModel",
        {"sample_size": 16, "in_channels": 3, "out_channels": 3, "time_embedding_type":
         "positional", "use_timestep_embedding": True, "block_out_channels": (8, 16),
         "down_block_types": ("DownResnetBlock1D", "DownResnetBlock1D"),
         "up_block_types": ("UpResnetBlock1D",), "mid_block_type": "MidResTemporalBlock1D",
         "out_block_type": "OutConv1DBlock", "layers_per_block": 1, "act_fn": "mish",
         "downsample_each_block": False, "freq_shift": 1.0, "flip_sin_to_cos": False},
        "DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"},
        (3, 16),
    ),
    "dance_diffusion": Folder(
        "UNet1DModel",
        {"sample_size": 512, "sample_rate": 16000, "extra_in_channels": 16,
         "time_embedding_type": "fourier", "use_timestep_embedding": False,
         "flip_sin_to_cos": True, "block_out_channels": (8, 32, 32),
         "down_block_types": ("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
         "up_block_types": ("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
         "mid_block_type": "UNetMidBlock1D"},
        "IPNDMScheduler", {}, (2, 512),
    ),
    "wan": Folder(
        "WanTransformer3DModel",
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
         "text_dim": 12, "freq_dim": 16, "ffn_dim": 32, "num_layers": 1, "rope_max_seq_len": 32},
        "UniPCMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
        (4, 3, 4, 6), {"encoder_hidden_states": (5, 12)},
        arguments={"sequence_length": 5, "size": (3, 4, 6)}, place="transformer",
    ),
}  # fmt: skip
