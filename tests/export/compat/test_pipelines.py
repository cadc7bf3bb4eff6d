"""diffusers' own pipelines, with one line changed, give what they gave."""

import diffusers
import numpy as np
import pytest
import torch
from compat_runs import SD

pytest.importorskip("transformers")  # which Stable Diffusion's pipelines import

from revstep.compat import RevstepScheduler

NEAR = 1e-4  # of the largest latent: the network carries each step's rounding on
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, sample_size=16,
    )  # fmt: skip
    return {
        "unet": unet.eval(),
        "vae": vae.eval(),
        "text_encoder": None,
        "tokenizer": None,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def drawn(pipe, steps, **given):
    torch.manual_seed(3)
    pipe.set_progress_bar_config(disable=True)
    result = pipe(
        prompt_embeds=torch.randn(2, 5, 8),
        negative_prompt_embeds=torch.randn(2, 5, 8),
        num_inference_steps=steps,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(k) for k in (5, 6)],
        output_type="latent",
        **given,
    )
    return result.images


def check(pipe, steps=6, **given):
    """The pipeline's own pictures, and those with the scheduler changed."""
    original = pipe.scheduler
    want = drawn(pipe, steps, **given)
    pipe.scheduler = RevstepScheduler.from_scheduler(pipe.scheduler)
    got = drawn(pipe, steps, **given)
    again = drawn(pipe, steps, **given)
    pipe.scheduler = original
    assert want.shape == got.shape
    assert float((got - want).abs().max() / want.abs().max()) < NEAR
    assert torch.equal(got, again)


def scheduler(name, **options):
    return getattr(diffusers, name)(**SD, **options)


TEXT = [
    ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    ("DDIMScheduler", {"clip_sample": False}),
    ("EulerDiscreteScheduler", {}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("UniPCMultistepScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2AncestralDiscreteScheduler", {}),
    ("LMSDiscreteScheduler", {}),
]


@pytest.mark.parametrize(("name", "options"), TEXT)
def test_text_to_image(parts, name, options):
    pipe = diffusers.StableDiffusionPipeline(**parts, scheduler=scheduler(name, **options))
    check(pipe, **({"eta": 0.6} if name == "DDIMScheduler" else {}))


@pytest.mark.parametrize(("name", "options"), TEXT)
def test_image_to_image_begins_in_the_middle(parts, name, options):
    cls = diffusers.StableDiffusionImg2ImgPipeline
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    check(cls(**parts, scheduler=scheduler(name, **options)), 10, image=image, strength=0.55)


@pytest.mark.parametrize(("name", "options"), TEXT)
def test_inpainting_writes_known_latents_between_the_steps(parts, name, options):
    cls = diffusers.StableDiffusionInpaintPipeline
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 6:] = 1.0
    given = {"image": image, "mask_image": mask, "strength": 0.9, "height": 16, "width": 16}
    check(cls(**parts, scheduler=scheduler(name, **options)), **given)


def test_pixels_are_denoised_by_ddpm_and_ddim():
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
    ).eval()
    for cls, scheduler in (
        (diffusers.DDPMPipeline, diffusers.DDPMScheduler()),
        (diffusers.DDIMPipeline, diffusers.DDIMScheduler()),
    ):
        pipe = cls(unet, scheduler)
        pipe.set_progress_bar_config(disable=True)
        found = []
        for _ in range(2):
            options = {"eta": 0.3} if cls is diffusers.DDIMPipeline else {}
            generator = torch.Generator().manual_seed(0)
            found.append(
                pipe(2, generator, num_inference_steps=8, output_type="np", **options).images
            )
            pipe.scheduler = RevstepScheduler.from_scheduler(pipe.scheduler)
        assert isinstance(pipe.scheduler, RevstepScheduler)
        assert np.abs(found[1] - found[0]).max() < NEAR


def test_a_pipeline_is_saved_for_diffusers_alone(tmp_path):
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    pipe = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler())
    pipe.scheduler = RevstepScheduler.from_scheduler(pipe.scheduler)
    pipe.save_pretrained(tmp_path)
    loaded = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    assert type(loaded.scheduler) is diffusers.DDPMScheduler
    ours = RevstepScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    assert isinstance(ours, RevstepScheduler)
