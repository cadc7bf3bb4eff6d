"""Prompts to pictures by a bundle, beside diffusers' own pipeline from the same initial noise."""

import json
import subprocess
import sys

import numpy as np
import pytest

import revstep

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

import pipelines  # noqa: E402

from revstep.kernels.noise import STREAM_KNOWN, normals  # noqa: E402

PROMPTS = ["a red fox in the snow, oil on canvas", "the cat at night"]
NEGATIVE = ["blurry", "text, watermark"]
STEPS = 4
LATENTS, PICTURE = 1e-3, 2.0  # of latents; of pictures of 0 to 255


@pytest.fixture(scope="module")
def pair(pipeline_folder, pipeline_bundle):
    """A function: (engine, pipeline) of a family."""
    made = {}

    def both(name, kind):
        if name not in made:
            engine = revstep.load(pipeline_bundle(name))
            pipeline = kind.from_pretrained(pipeline_folder(name))
            pipeline.set_progress_bar_config(disable=True)
            made[name] = engine, pipeline, pipeline.scheduler
        engine, pipeline, scheduler = made[name]
        pipeline.scheduler = type(scheduler).from_config(scheduler.config)  # a test changes it
        return engine, pipeline

    return both


def noise_of(spec):
    shape = (len(PROMPTS), *spec.shape)
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def kept_noise(spec, n, step):
    """The noise of the known pixels after a step, of the seeds 0 to n - 1."""
    count = int(np.prod(spec.shape))
    rows = [normals(seed, step, STREAM_KNOWN, count).astype(np.float32) for seed in range(n)]
    return torch.from_numpy(np.reshape(rows, (n, *spec.shape)))


def draw(pipeline, unpack=lambda x: x, **arguments):
    """(latents, pictures) of diffusers, numpy and PIL; decoded as the pipeline decodes them."""
    arguments = {"num_inference_steps": STEPS, **arguments}
    vae = pipeline.vae
    with torch.no_grad():
        latents = unpack(pipeline(output_type="latent", **arguments).images)
        scaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        pictures = pipeline.image_processor.postprocess(vae.decode(scaled).sample, "pil")
    return latents.numpy(), pictures


def assert_same(samples, latents, pictures):
    np.testing.assert_allclose(samples.x, latents, atol=LATENTS, rtol=0.0)
    for ours, theirs in zip(samples.pil(), pictures, strict=True):
        away = np.asarray(ours, np.float32) - np.asarray(theirs, np.float32)
        assert np.abs(away).max() <= PICTURE
    assert np.std(np.asarray(pictures[0], np.float32)) > 5.0  # not one grey plane


def compared(engine, pipeline, guidance=1.0, negative=None, options=None, **arguments):
    """Draws with both, and holds ours to theirs."""
    noise = noise_of(engine.spec)
    samples = engine.sample(
        prompt=PROMPTS, negative_prompt=negative, guidance=guidance, steps=STEPS, noise=noise,
        height=pipelines.PIXELS, width=pipelines.PIXELS, **(options or {}),
    )  # fmt: skip
    wanted = draw(
        pipeline, prompt=PROMPTS, negative_prompt=negative, guidance_scale=guidance,
        latents=torch.from_numpy(noise), **arguments,
    )  # fmt: skip
    assert_same(samples, *wanted)
    return samples


SCHEDULERS = {  # diffusers' scheduler: the sampler of that name here
    "DDIMScheduler": "ddim",
    "PNDMScheduler": None,
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "UniPCMultistepScheduler": "unipc",
    "LMSDiscreteScheduler": "lms",
}
OWN = {"DDIMScheduler": {"clip_sample": False}}  # as Stable Diffusion's own config says


@pytest.mark.parametrize(
    ("name", "guidance"), [("DDIMScheduler", 1.0), *((name, 7.5) for name in SCHEDULERS)]
)
def test_stable_diffusion_draws_what_its_pipeline_draws(pair, name, guidance):
    engine, pipeline = pair("stable_diffusion", diffusers.StableDiffusionPipeline)
    kind = getattr(diffusers, name)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **OWN.get(name, {}))
    sampler = SCHEDULERS[name]
    options = {} if sampler is None else {"sampler": sampler, "compat": "diffusers"}
    compared(engine, pipeline, guidance, options=options)


def test_each_prompt_has_its_own_negative_one(pair):
    engine, pipeline = pair("stable_diffusion", diffusers.StableDiffusionPipeline)
    ours = compared(engine, pipeline, 5.0, NEGATIVE)
    plain = compared(engine, pipeline, 5.0)
    assert np.abs(ours.x - plain.x).max() > 100 * LATENTS


def test_a_prompt_is_drawn_alike_alone_and_among_others(pair):
    engine, _ = pair("stable_diffusion", diffusers.StableDiffusionPipeline)
    both = engine.sample(prompt=PROMPTS, guidance=4.0, steps=STEPS, seed=[7, 8])
    alone = engine.sample(1, prompt=PROMPTS[1], guidance=4.0, steps=STEPS, seed=[8])
    np.testing.assert_allclose(alone.x[0], both.x[1], atol=LATENTS)


def test_a_picture_is_changed_as_the_image_to_image_pipeline_changes_it(pair):
    engine, pipeline = pair("stable_diffusion", diffusers.StableDiffusionPipeline)
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **pipeline.components, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, **OWN["DDIMScheduler"]
    )
    start = engine.sample(2, prompt=PROMPTS, steps=2, seed=1).pil()
    draws = torch.Generator().manual_seed(5)
    shape = (2, *engine.spec.shape)
    torch.randn(shape, generator=draws)  # of the encoder's draw, which has no spread here
    noise = torch.randn(shape, generator=draws)
    wanted = draw(
        pipeline, prompt=PROMPTS, image=start, strength=0.5, num_inference_steps=6,
        guidance_scale=3.0, generator=torch.Generator().manual_seed(5),
    )  # fmt: skip
    samples = engine.sample(
        prompt=PROMPTS, start=start, strength=0.5, steps=6, guidance=3.0, noise=noise.numpy(),
        sampler="ddim", compat="diffusers",
    )  # fmt: skip
    assert_same(samples, *wanted)


def test_a_picture_is_filled_as_the_inpainting_pipeline_fills_it(pair, monkeypatch):
    """The pipeline has one noise for what it keeps, revstep one a step, which it is given here."""
    engine, pipeline = pair("stable_diffusion", diffusers.StableDiffusionPipeline)
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        **pipeline.components, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, **OWN["DDIMScheduler"]
    )
    pipeline.scheduler = scheduler
    side, n = pipelines.PIXELS, len(PROMPTS)
    known = engine.sample(prompt=PROMPTS, steps=2, seed=1).pil()
    keep = np.zeros((side, side), np.float32)
    keep[10:40, : side // 2] = 1.0
    draws = (kept_noise(engine.spec, n, step) for step in range(STEPS))
    own = scheduler.add_noise
    monkeypatch.setattr(scheduler, "add_noise", lambda x, _, t: own(x, next(draws), t))
    noise = noise_of(engine.spec)
    wanted = draw(
        pipeline, prompt=PROMPTS, image=known, mask_image=torch.from_numpy(1 - keep)[None, None],
        height=side, width=side, strength=1.0, guidance_scale=3.0, latents=torch.from_numpy(noise),
    )  # fmt: skip
    samples = engine.sample(
        prompt=PROMPTS, known=known, mask=keep, steps=STEPS, guidance=3.0, noise=noise,
        seed=range(n), sampler="ddim", compat="diffusers",
    )  # fmt: skip
    assert_same(samples, *wanted)


def test_what_a_mask_keeps_of_a_picture_stays(pair):
    engine, _ = pair("stable_diffusion", diffusers.StableDiffusionPipeline)
    side = pipelines.PIXELS
    known = engine.sample(1, prompt=PROMPTS[0], steps=2, seed=1).pil()[0]
    mask = np.zeros((side, side), np.float32)
    mask[:, : side // 2] = 1.0
    samples = engine.sample(1, prompt=PROMPTS[1], known=known, mask=mask, steps=STEPS, seed=2)
    latents = engine.encode_pictures(known)
    half = engine.spec.shape[-1] // 2
    np.testing.assert_allclose(samples.x[0, ..., :half], latents[..., :half], atol=1e-4)
    assert np.abs(samples.x[0, ..., half:] - latents[..., half:]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("guidance", "negative"), [(1.0, None), (5.0, None), (5.0, NEGATIVE)])
def test_sdxl_draws_what_its_pipeline_draws(pair, guidance, negative):
    engine, pipeline = pair("stable_diffusion_xl", diffusers.StableDiffusionXLPipeline)
    compared(engine, pipeline, guidance, negative)


@pytest.mark.slow
def test_sdxl_is_told_another_size_than_its_own(pair):
    engine, pipeline = pair("stable_diffusion_xl", diffusers.StableDiffusionXLPipeline)
    side = pipelines.PIXELS
    sizes = np.array([512, 384, 16, 8, side, side], np.float32)
    options = {"conditions": {"time_ids": sizes}, "null_conditions": {"time_ids": sizes}}
    compared(engine, pipeline, 3.0, options=options, original_size=(512, 384),
             crops_coords_top_left=(16, 8), target_size=(side, side))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("guidance", "negative"), [(1.0, None), (4.0, None), (4.0, NEGATIVE)])
def test_stable_diffusion_3_draws_what_its_pipeline_draws(pair, guidance, negative):
    engine, pipeline = pair("stable_diffusion_3", diffusers.StableDiffusion3Pipeline)
    compared(engine, pipeline, guidance, negative, max_sequence_length=pipelines.T5_LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("negative", [None, NEGATIVE])
def test_pixart_draws_what_its_pipeline_draws(pair, negative):
    engine, pipeline = pair("pixart", diffusers.PixArtSigmaPipeline)
    side = pipelines.PIXELS
    compared(
        engine, pipeline, 4.5, negative or "", clean_caption=False, height=side, width=side,
        max_sequence_length=pipelines.T5_LENGTH, use_resolution_binning=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("guidance", "true"), [(3.5, 1.0), (1.5, 4.0)])
def test_flux_draws_what_its_pipeline_draws(pair, guidance, true):
    """Its guidance is a condition; what is guidance elsewhere is its ``true_cfg_scale``."""
    engine, pipeline = pair("flux", diffusers.FluxPipeline)
    channels, rows, columns = engine.spec.shape
    noise = noise_of(engine.spec)
    samples = engine.sample(
        prompt=PROMPTS, negative_prompt=NEGATIVE, guidance=true, steps=STEPS, noise=noise,
        conditions={"guidance": guidance}, null_conditions={"guidance": guidance},
    )  # fmt: skip
    packed = pipeline._pack_latents(torch.from_numpy(noise), 2, channels, rows, columns)
    side = pipelines.PIXELS
    wanted = draw(
        pipeline, lambda x: pipeline._unpack_latents(x, side, side, 4), prompt=PROMPTS,
        negative_prompt=NEGATIVE, true_cfg_scale=true, guidance_scale=guidance, latents=packed,
        height=side, width=side, max_sequence_length=pipelines.T5_LENGTH,
    )  # fmt: skip
    assert_same(samples, *wanted)


def test_the_command_draws_a_picture_of_a_prompt(pipeline_bundle, tmp_path):
    bundle = pipeline_bundle("stable_diffusion")
    output = tmp_path / "fox.png"
    command = [sys.executable, "-m", "revstep", "sample", str(bundle), "--prompt", PROMPTS[0],
               "--negative-prompt", "blurry", "--guidance", "5", "--steps", "3", "--seed", "4",
               "-o", str(output), "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sampler"]
    engine = revstep.load(bundle)
    (wanted,) = engine.sample(
        1, prompt=PROMPTS[0], negative_prompt="blurry", guidance=5.0, steps=3, seed=4
    ).pil()
    from PIL import Image

    with Image.open(output) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(wanted))
