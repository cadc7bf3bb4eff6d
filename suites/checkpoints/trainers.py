"""Kinds of other training libraries, by their examples, beside the libraries' own samplers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suites.checkpoints.kind import Compared, Kind, Made
from suites.checkpoints.modules import made_of
from suites.support import support

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

SOURCE = "factory"
STEPS = 16


def trainer_kinds() -> list[Kind]:
    """A small network of each library, lively weights."""
    ddp, own = "denoising_diffusion_pytorch", "its library's own sampler"
    return [
        Kind("denoising-diffusion-pytorch, Unet", SOURCE, own, _ddp, (ddp,)),
        Kind("denoising-diffusion-pytorch, Unet1D", SOURCE, own, _ddp_1d, (ddp,)),
        Kind("denoising-diffusion-pytorch, ElucidatedDiffusion", SOURCE, own, _elucidated, (ddp,)),
        Kind("azula, Karras denoiser", SOURCE, own, _azula, ("azula",)),
        Kind("MONAI, DiffusionModelUNet", SOURCE, own, _monai, ("monai",)),
        Kind(
            "MONAI, DiffusionModelUNet, epsilon",
            SOURCE,
            own,
            partial(_monai, of="epsilon"),
            ("monai",),
        ),
        Kind(
            "MONAI, DiffusionModelUNet, rectified flow",
            SOURCE,
            own,
            partial(_monai, of="flow"),
            ("monai",),
        ),
        Kind("diffusion policy with its observation encoder", SOURCE, own, _policy, ("diffusers",)),
    ]


def _example(name: str) -> Any:
    return support("example_files").imported(f"trainers/{name}.py")


def _made(module: Any, spec: Any, whole: Callable[[Engine], Compared]) -> Made:
    from revstep.export import Checkpoint

    return Made(made_of(Checkpoint(module=module, spec=spec)).export, whole)


def _ddp(_: Path) -> Made:
    trainers = support("trainers")
    ddp = trainers.library("denoising_diffusion_pytorch")
    network = trainers.lively(ddp.Unet(dim=16, dim_mults=(1, 2), channels=1))
    return _of_ddp(ddp.GaussianDiffusion(
        network, image_size=8, objective="pred_v", beta_schedule="sigmoid",
        sampling_timesteps=STEPS,
    ).eval())  # fmt: skip


def _ddp_1d(_: Path) -> Made:
    trainers = support("trainers")
    ddp = trainers.library("denoising_diffusion_pytorch")
    network = trainers.lively(ddp.Unet1D(dim=16, dim_mults=(1, 2), channels=2), seed=2)
    return _of_ddp(ddp.GaussianDiffusion1D(
        network, seq_length=16, objective="pred_v", sampling_timesteps=STEPS
    ).eval())  # fmt: skip


def _of_ddp(diffusion: Any) -> Made:
    example, trainers = _example("denoising_diffusion"), support("trainers")
    module, spec = example.from_gaussian_diffusion(diffusion)

    def whole(engine: Engine) -> Compared:
        want, noise = trainers.seeded(lambda: diffusion.sample(2), (2, *spec.shape))
        _, last = spec.schedule.alpha_sigma(spec.schedule.steps - 1)
        own = engine.sample(2, noise=noise / last, **example.own_sampling(diffusion))
        return own.x, 2 * want - 1

    return _made(module, spec, whole)


def _elucidated(_: Path) -> Made:
    trainers = support("trainers")
    ddp = trainers.library("denoising_diffusion_pytorch")
    example = _example("denoising_diffusion")
    network = ddp.Unet(dim=16, dim_mults=(1, 2), channels=1, learned_sinusoidal_cond=True)
    diffusion = ddp.ElucidatedDiffusion(
        trainers.lively(network), image_size=8, channels=1, num_sample_steps=STEPS, S_churn=0,
        sigma_data=0.4,
    ).eval()  # fmt: skip
    module, spec = example.from_elucidated(diffusion)

    def whole(engine: Engine) -> Compared:
        want, noise = trainers.seeded(lambda: diffusion.sample(2), (2, *spec.shape))
        return engine.sample(2, noise=noise, steps=STEPS).x, 2 * want - 1

    return _made(module, spec, whole)


def _azula(_: Path) -> Made:
    import torch

    example, trainers = _example("azula_denoiser"), support("trainers")
    azula = example.azula
    backbone = trainers.lively(example.UNet())
    denoiser = azula.denoise.KarrasDenoiser(backbone, azula.noise.CosineSchedule()).eval()
    sampler = azula.sample.DDIMSampler(denoiser, steps=STEPS, silent=True)

    def whole(engine: Engine) -> Compared:
        torch.manual_seed(0)
        x = sampler.init((2, 1, 8, 8))
        _, last = denoiser.schedule(torch.tensor(1.0))
        with torch.no_grad():
            want = sampler(x).numpy()
        own = engine.sample(2, noise=(x / last).numpy(), grid=example.own_grid(sampler))
        return own.x, want

    module, spec = example.from_denoiser(denoiser, (1, 8, 8))
    return _made(module, spec, whole)


def _monai(_: Path, of: str = "v_prediction") -> Made:
    import torch

    example, trainers = _example("monai_diffusion"), support("trainers")
    network = trainers.lively(example.DiffusionModelUNet(
        spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16), num_res_blocks=1,
        attention_levels=(False, True), norm_num_groups=4, num_head_channels=8,
    ), 2)  # fmt: skip
    if of == "flow":
        scheduler = example.RFlowScheduler(1000)
    else:
        scheduler = example.DDIMScheduler(1000, "linear_beta", prediction_type=of)

    def whole(engine: Engine) -> Compared:
        inferers = trainers.library("monai.inferers")
        scheduler.set_timesteps(STEPS)
        noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        want = inferers.DiffusionInferer(scheduler).sample(noise, network, scheduler, verbose=False)
        own = engine.sample(2, noise=noise.numpy(), **example.own_sampling(scheduler))
        return own.x, want.numpy()

    module, spec = example.from_monai(network, scheduler, (1, 8, 8), ())
    return _made(module, spec, whole)


def _policy(_: Path) -> Made:
    import sys

    import torch

    files, trainers = support("example_files"), support("trainers")
    sys.path.insert(0, str(files.EXAMPLES / "trainers"))
    example = _example("diffusion_policy")
    policy = trainers.lively(example.Policy(), seed=3)
    parts = example.from_policy(policy)

    def whole(engine: Engine) -> Compared:
        rng = np.random.default_rng(0)
        image = rng.random((2, 2, 3, 32, 32)).astype(np.float32)
        state, noise = (rng.standard_normal((2, *s)).astype(np.float32) for s in ((2, 4), (16, 2)))
        with torch.no_grad():
            observed = [torch.from_numpy(a) for a in (image, state, noise)]
            want = policy.predict_action(*observed, steps=STEPS)
        inputs = {"image": image, "state": state}
        own = engine.sample(2, noise=noise, inputs=inputs, steps=STEPS)
        return own.numpy(), np.asarray(want)

    made = made_of(parts)
    return Made(made.export, whole)
