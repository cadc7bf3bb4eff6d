"""``compat="diffusers"`` against whole pipelines of that library (0.42.1), networks and all.

Their networks are tiny and random, made in memory; what is compared is the pipeline's own loop:
where it starts, how many steps it runs, what it clips, and how it keeps known pixels. Random noise
within the loop is handed to both.
"""

import importlib

import numpy as np
import pytest
from networks import NumpyDenoiser

from revstep import DenoiserSpec, Engine
from revstep.grids import LeadingGrid
from revstep.kernels.noise import normals
from revstep.samplers import make_sampler
from revstep.schedules import VPSchedule

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers", minversion="0.42")

SHAPE = (4, 4, 4)
SEED = 7
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
UPDATE, KNOWN = 0, 2  # streams of the noise of steps, and of known pixels
GRIDS = {"leading": LeadingGrid(offset=1), "trailing": "trailing"}
PEERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
}
STRENGTHS = [(10, 0.55), (9, 0.5), (7, 0.3)]


def scheduler_of(sampler, grid):
    name, own = PEERS[sampler]
    settings = {"steps_offset": 1}  # of the leading grid; Stable Diffusion asks for it always
    settings |= {"set_alpha_to_one": True} if name in ("DDIMScheduler", "PNDMScheduler") else {}
    return getattr(diffusers, name)(**BETAS, **own, **settings, timestep_spacing=grid)


def engine_of(function, grid="trailing", **fields):
    given = {
        "shape": SHAPE,
        "schedule": VPSchedule(
            betas="scaled_linear", beta_start=BETAS["beta_start"], beta_end=BETAS["beta_end"]
        ),
        "prediction": "epsilon",
        "grid": GRIDS[grid],
        "batch": (1, 8),
        **fields,
    }

    def network(x, t, _):
        with torch.no_grad():
            return function(torch.from_numpy(x.copy()), torch.from_numpy(t.copy())).numpy()

    return Engine(NumpyDenoiser(DenoiserSpec(**given), network))


def noise(row=0, stream=1):
    draw = normals(SEED, row, stream, int(np.prod(SHAPE))).reshape(1, *SHAPE)
    return torch.from_numpy(draw.astype(np.float32))


def picture():
    return torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(3))[:1]


def assert_same(got, want, bound=2e-5):
    want = np.asarray(want)
    assert np.abs(got - want).max() < bound * np.sqrt(np.mean(want.astype(np.float64) ** 2))


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def unconditional():
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(32,),
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1,
        norm_num_groups=8, attention_head_dim=8,
    ).eval()  # fmt: skip


def hand_out(monkeypatch, module, draws):
    """Makes the library's noise be ``draws``, one after the other."""
    given = iter(draws)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(given))


def recorded(monkeypatch, scheduler):
    """The states after every step: these pipelines' pictures are cut to [0, 1]."""
    states, own = [], scheduler.step

    def step(*arguments, **options):
        states.append((found := own(*arguments, **options)).prev_sample.numpy())
        return found

    monkeypatch.setattr(scheduler, "step", step)
    return states


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_ddim_pipeline(unconditional, grid, eta, clip, monkeypatch):
    from diffusers.pipelines.ddim import pipeline_ddim
    from diffusers.schedulers import scheduling_ddim

    scheduler = scheduler_of("ddim", grid)
    scheduler.register_to_config(clip_sample=clip)
    hand_out(monkeypatch, pipeline_ddim, [noise()])
    hand_out(monkeypatch, scheduling_ddim, [noise(k, UPDATE) for k in range(8)])
    pipeline = quiet(diffusers.DDIMPipeline(unconditional, scheduler))
    states = recorded(monkeypatch, pipeline.scheduler)
    pipeline(num_inference_steps=8, eta=eta, output_type="pt")
    engine = engine_of(
        lambda x, t: unconditional(x, t).sample, grid, clip=clip, value_range=(-1.0, 1.0)
    )
    sampler = make_sampler("ddim", eta=eta, epsilon="keep")
    got = engine.sample(1, sampler=sampler, steps=8, seed=SEED, compat="diffusers").x
    assert_same(got, states[-1])


@pytest.mark.parametrize("grid", GRIDS)
def test_the_ddpm_pipeline(unconditional, grid, monkeypatch):
    from diffusers.pipelines.ddpm import pipeline_ddpm
    from diffusers.schedulers import scheduling_ddpm

    scheduler = diffusers.DDPMScheduler(**BETAS, timestep_spacing=grid, steps_offset=1)
    hand_out(monkeypatch, pipeline_ddpm, [noise()])
    hand_out(monkeypatch, scheduling_ddpm, [noise(k, UPDATE) for k in range(8)])
    pipeline = quiet(diffusers.DDPMPipeline(unconditional, scheduler))
    states = recorded(monkeypatch, pipeline.scheduler)
    pipeline(num_inference_steps=8, output_type="pt")
    engine = engine_of(
        lambda x, t: unconditional(x, t).sample, grid, clip=True, value_range=(-1.0, 1.0)
    )
    got = engine.sample(1, sampler="ddpm", steps=8, seed=SEED, compat="diffusers").x
    assert_same(got, states[-1])


@pytest.fixture(scope="module")
def conditional():
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(32,),
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1,
        cross_attention_dim=8, norm_num_groups=8, mid_block_type=None,
    ).eval()  # fmt: skip


def pipeline_of(kind, unet, scheduler):
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=4, layers_per_block=1,
    )  # fmt: skip
    parts = {"text_encoder": None, "tokenizer": None, "safety_checker": None}
    return quiet(
        getattr(diffusers, kind)(
            vae=vae, unet=unet, scheduler=scheduler, feature_extractor=None,
            requires_safety_checker=False, **parts,
        )
    )  # fmt: skip


def run_pipeline(pipeline, **arguments):
    return pipeline(
        prompt_embeds=torch.zeros(1, 1, 8), guidance_scale=1.0, output_type="latent", **arguments
    ).images.numpy()


def latent_engine(unet, grid):
    return engine_of(lambda x, t: unet(x, t, torch.zeros(len(x), 1, 8), return_dict=False)[0], grid)


@pytest.fixture
def transformers():
    """The pipelines of Stable Diffusion need it to be imported, though none of it runs here."""
    return pytest.importorskip("transformers")


@pytest.mark.parametrize(("steps", "strength"), [*STRENGTHS, (6, 1.0)])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    "sampler",
    [
        "ddim",
        "euler",
        "heun",
        "dpmpp_2m",
        "unipc",
        "ddpm",
        "euler_ancestral",
        "dpmpp_2m_sde",
    ],
)
@pytest.mark.usefixtures("transformers")
def test_stable_diffusions_image_to_image(conditional, sampler, grid, steps, strength, monkeypatch):
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as module

    hand_out(monkeypatch, module, [noise()])
    scheduler = scheduler_of(sampler, grid)
    own = importlib.import_module(type(scheduler).__module__)
    if hasattr(own, "randn_tensor"):
        hand_out(monkeypatch, own, [noise(k, UPDATE) for k in range(steps)])
    pipeline = pipeline_of("StableDiffusionImg2ImgPipeline", conditional, scheduler)
    want = run_pipeline(pipeline, image=picture(), strength=strength, num_inference_steps=steps)
    given = {"sampler": sampler, "steps": steps, "strength": strength, "seed": SEED}
    engine = latent_engine(conditional, grid)
    assert_same(engine.sample(start=picture(), compat="diffusers", **given).x, want)
    if int(steps * strength) != np.ceil(steps * strength):
        assert np.abs(engine.sample(start=picture(), **given).x - want).max() > 1e-2


@pytest.mark.parametrize(("steps", "strength"), [(9, 0.5), (7, 0.3), (6, 1.0)])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "heun", "unipc"])
@pytest.mark.usefixtures("transformers")
def test_stable_diffusions_inpainting_but_for_its_noise(
    conditional, sampler, steps, strength, monkeypatch
):
    """The pipeline puts the start's noise on the known pixels at every step, revstep fresh noise.

    Its scheduler is given that noise here. The rest must be the same: levels, start and end.
    """
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as module

    hand_out(monkeypatch, module, [noise()])
    scheduler = scheduler_of(sampler, "leading")
    whole = strength == 1.0
    draws = iter([*([] if whole else [noise()]), *(noise(k, KNOWN) for k in range(2 * steps))])
    own = scheduler.add_noise
    monkeypatch.setattr(scheduler, "add_noise", lambda x, _, t: own(x, next(draws), t))
    pipeline = pipeline_of("StableDiffusionInpaintPipeline", conditional, scheduler)
    monkeypatch.setattr(pipeline, "_encode_vae_image", lambda *_, **__: picture())
    repaint = torch.zeros(1, 1, 32, 32)
    repaint[..., 16:] = 1.0
    want = run_pipeline(
        pipeline, image=torch.zeros(1, 3, 32, 32), mask_image=repaint, height=32, width=32,
        strength=strength, num_inference_steps=steps,
    )  # fmt: skip
    start = {} if whole else {"start": picture(), "strength": strength}
    keep = np.array([1.0, 1.0, 0.0, 0.0], np.float32)
    given = {"sampler": sampler, "steps": steps, "seed": SEED, "compat": "diffusers"}
    engine = latent_engine(conditional, "leading")
    got = engine.sample(mask=keep, known=picture(), **given, **start).x
    assert_same(got, want)
    if whole:  # with a start too: the pipeline always has a picture, and leaves it out here
        start = {"start": picture(), "strength": 1.0}
        again = engine.sample(mask=keep, known=picture(), **given, **start).x
        np.testing.assert_array_equal(again, got)


@pytest.mark.usefixtures("transformers")
def test_stable_diffusions_text_to_image(conditional, monkeypatch):
    for sampler in ("ddim", "dpmpp_2m", "euler", "pndm"):
        pipeline = pipeline_of(
            "StableDiffusionPipeline", conditional, scheduler_of(sampler, "leading")
        )
        want = run_pipeline(pipeline, latents=noise(), num_inference_steps=7, height=32, width=32)
        engine = latent_engine(conditional, "leading")
        got = engine.sample(1, sampler=sampler, steps=7, seed=SEED, compat="diffusers").x
        assert_same(got, want)


def test_kandinskys_image_to_image(monkeypatch):
    """A pipeline that needs no text encoder, nor the library that has them."""
    from diffusers.pipelines.kandinsky2_2 import pipeline_kandinsky2_2_img2img as module

    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=8, block_out_channels=(32,),
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1,
        cross_attention_dim=8, norm_num_groups=8, mid_block_type=None,
    ).eval()  # fmt: skip
    movq = diffusers.VQModel(
        in_channels=3, latent_channels=4, vq_embed_dim=4, block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4, layers_per_block=1, num_vq_embeddings=8,
    )  # fmt: skip
    own = type(unet).forward
    monkeypatch.setattr(
        unet, "forward", lambda sample, timestep, **_: own(
            unet, sample, timestep, torch.zeros(len(sample), 1, 8), return_dict=False
        )
    )  # fmt: skip
    monkeypatch.setattr(movq, "encode", lambda _: {"latents": picture()})
    for steps, strength in STRENGTHS:
        hand_out(monkeypatch, module, [noise()])
        scheduler = scheduler_of("ddim", "leading")
        pipeline = quiet(module.KandinskyV22Img2ImgPipeline(unet, scheduler, movq))
        want = pipeline(
            torch.zeros(1, 8), torch.zeros(1, 3, 32, 32), torch.zeros(1, 8), height=32, width=32,
            num_inference_steps=steps, strength=strength, guidance_scale=1.0, output_type="latent",
        ).images.numpy()  # fmt: skip
        engine = engine_of(lambda x, t: unet.forward(x, t)[0][:, :4], "leading")
        got = engine.sample(
            start=picture(), strength=strength, sampler="ddim", steps=steps, seed=SEED,
            compat="diffusers",
        )  # fmt: skip
        assert_same(got.x, want)
