"""Small pipelines of random weights, in folders as ``save_pretrained`` writes them."""

import torch
from vocabularies import SPECIAL, byte_vocabulary, t5_pieces, t5_tokenizer, write_clip_tokenizer

SIDE = 16  # of the latents; pictures are four times as large
PIXELS = 4 * SIDE
T5_LENGTH = 20
OPTIONS = {  # of their export
    "pixart": {"sequence_length": T5_LENGTH},
    "stable_diffusion_3": {"sequence_length": 77 + T5_LENGTH},
    "flux": {"sequence_length": T5_LENGTH, "size": (PIXELS, PIXELS)},
}
SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def clip(projected=False, width=32, layers=3, legacy=False, length=77):
    """A CLIP text model; ``legacy`` has the end of Stable Diffusion's own configs."""
    import transformers

    words = byte_vocabulary()[0]
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=layers, num_attention_heads=4, max_position_embeddings=length,
        projection_dim=width, hidden_act="quick_gelu" if legacy else "gelu",
        bos_token_id=0 if legacy else words[SPECIAL[0]],
        eos_token_id=2 if legacy else words[SPECIAL[1]],
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(config).eval()


def t5(width=32):
    """A T5 encoder."""
    import transformers

    config = transformers.T5Config(
        vocab_size=len(t5_pieces()), d_model=width, d_kv=8, d_ff=2 * width, num_layers=2,
        num_heads=4, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return transformers.T5EncoderModel(config).eval()


def vae(channels=4, **config):
    """A VAE of stride 4 whose latents have next to no spread, so that a draw is their mean."""
    import diffusers

    found = diffusers.AutoencoderKL(
        block_out_channels=(16, 16, 32), layers_per_block=1, norm_num_groups=8,
        latent_channels=channels, sample_size=PIXELS, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, **config,
    )  # fmt: skip
    last = found.encoder.conv_out if found.quant_conv is None else found.quant_conv
    with torch.no_grad():
        last.weight[channels:] = 0.0
        last.bias[channels:] = -30.0
    return found.eval()


def unet(**config):
    """Stable Diffusion's U-Net with two levels."""
    import diffusers

    return diffusers.UNet2DConditionModel(**{
        "sample_size": SIDE, "block_out_channels": (16, 32), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "norm_num_groups": 8,
        "cross_attention_dim": 32, "attention_head_dim": 4, **config,
    }).eval()  # fmt: skip


def stable_diffusion(folder, *, pad=SPECIAL[1], **config):
    """Stable Diffusion 1: one CLIP, PNDM over scaled linear betas."""
    import diffusers

    torch.manual_seed(1)
    tokenizer = clip_tokenizer(folder, "tokenizer", pad)
    scheduler = diffusers.PNDMScheduler(**SD_BETAS, skip_prk_steps=True, steps_offset=1)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=clip(legacy=True), tokenizer=tokenizer, unet=unet(**config),
        scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    return saved(pipeline, folder)


def stable_diffusion_xl(folder):
    """SDXL: two CLIPs, sizes, Euler over scaled linear betas."""
    import diffusers

    torch.manual_seed(2)
    network = unet(
        cross_attention_dim=32 + 24, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8, transformer_layers_per_block=(1, 2),
    )  # fmt: skip
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025), text_encoder=clip(),
        text_encoder_2=clip(projected=True, width=24), unet=network,
        tokenizer=clip_tokenizer(folder, "tokenizer"),
        tokenizer_2=clip_tokenizer(folder, "tokenizer_2", "!"),
        scheduler=diffusers.EulerDiscreteScheduler(**SD_BETAS, steps_offset=1,
                                                   timestep_spacing="leading"),
        add_watermarker=False,
    )  # fmt: skip
    return saved(pipeline, folder)


def stable_diffusion_3(folder, *, with_t5=True):
    """Stable Diffusion 3: two CLIPs and T5, rectified flow with shift 3."""
    import diffusers

    torch.manual_seed(3)
    network = diffusers.SD3Transformer2DModel(
        sample_size=SIDE, patch_size=2, in_channels=8, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=64, caption_projection_dim=32,
        pooled_projection_dim=32 + 24, out_channels=8, pos_embed_max_size=24,
    )  # fmt: skip
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=network.eval(),
        vae=vae(8, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.5305,
                shift_factor=0.0609),
        text_encoder=clip(projected=True), text_encoder_2=clip(projected=True, width=24),
        text_encoder_3=t5(64) if with_t5 else None,
        tokenizer=clip_tokenizer(folder, "tokenizer"),
        tokenizer_2=clip_tokenizer(folder, "tokenizer_2", "!"),
        tokenizer_3=t5_tokenizer() if with_t5 else None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    return saved(pipeline, folder)


def flux(folder):
    """Flux: CLIP's pooled text, T5, a guidance that the network is fed."""
    import diffusers

    torch.manual_seed(4)
    network = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    pipeline = diffusers.FluxPipeline(
        transformer=network.eval(),
        vae=vae(4, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611,
                shift_factor=0.1159),
        text_encoder=clip(), text_encoder_2=t5(),
        tokenizer=clip_tokenizer(folder, "tokenizer"), tokenizer_2=t5_tokenizer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
        ),
    )  # fmt: skip
    return saved(pipeline, folder)


def pixart(folder):
    """PixArt-Sigma: T5 with its mask, DPM-Solver++ over linear betas, learned variance."""
    import diffusers

    torch.manual_seed(5)
    network = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
        sample_size=SIDE, patch_size=2, cross_attention_dim=16, caption_channels=32,
        use_additional_conditions=False,
    )  # fmt: skip
    pipeline = diffusers.PixArtSigmaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        vae=vae(),
        transformer=network.eval(),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )
    return saved(pipeline, folder)


def clip_tokenizer(folder, name, pad=SPECIAL[1]):
    """transformers' tokenizer of the small vocabulary."""
    import transformers

    write_clip_tokenizer(folder / name, pad=pad)
    return transformers.CLIPTokenizer.from_pretrained(folder / name)


def saved(pipeline, folder):
    """The folder, in which the pipeline is; CLIP's vocabulary in the files of transformers 4."""
    names = [n for n in ("tokenizer", "tokenizer_2") if (folder / n / "vocab.json").exists()]
    pads = {n: getattr(pipeline, n).pad_token for n in names}
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in names:
        (folder / name / "tokenizer.json").unlink(missing_ok=True)
        write_clip_tokenizer(folder / name, pad=pads[name])
    return folder
