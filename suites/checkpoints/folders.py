"""Kinds that come as diffusers folders: a trained one, and a small random one of each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suites.checkpoints.kind import Compared, Kind, Made
from suites.support import support

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

DEMO = Path(__file__).resolve().parents[2] / "examples" / "fashion_mnist_unet"
SOURCE, LOOP = "diffusers folder", "diffusers' scheduler around its network"
ROWS, GUIDANCE = 3, 2.0
CLASSES = {  # of tests/support/diffusers_folders.py
    "unet_2d": "UNet2DModel, class labels, DDIM",
    "consistency": "UNet2DModel, consistency model",
    "stable_diffusion": "UNet2DConditionModel (SD 1), PNDM",
    "stable_diffusion_v": "UNet2DConditionModel (SD 2), v, Euler",
    "sdxl": "UNet2DConditionModel (SDXL), added conditions, Euler",
    "latent_consistency": "UNet2DConditionModel (LCM), guidance embedded",
    "dit": "DiTTransformer2DModel, learned variance",
    "pixart": "PixArtTransformer2DModel, attention mask",
    "pixart_sized": "PixArtTransformer2DModel, sizes",
    "sd3": "SD3Transformer2DModel, flow",
    "flux": "FluxTransformer2DModel, flow, guidance embedded",
    "unet_1d": "UNet1DModel",
    "wan": "WanTransformer3DModel, video, UniPC",
}


def folder_kinds() -> list[Kind]:
    """The bundled denoiser, and a small network of each class."""
    needs = ("diffusers",)
    trained = Kind("UNet2DModel, trained, class labels", SOURCE, LOOP, _demo, needs)
    return [
        trained,
        *(Kind(title, SOURCE, LOOP, _maker(name), needs) for name, title in CLASSES.items()),
    ]


def _maker(name: str) -> Any:
    def make(folder: Path) -> Made:
        import torch

        made = support("diffusers_folders").FOLDERS[name]
        network, scheduler = made.save(folder / "model")

        def export(path: Path, precisions: Sequence[str]) -> None:
            from revstep.export import export_diffusers

            export_diffusers(folder / "model", path, precisions=precisions, **made.arguments)

        def whole(engine: Engine) -> Compared:
            noise = torch.randn(ROWS, *made.shape, generator=torch.Generator().manual_seed(5))
            given, nulls = made.values(ROWS), made.values(ROWS, seed=2)
            guidance = GUIDANCE if given else 1.0
            want = made.loop(network, scheduler, noise, given, nulls, guidance)
            asked = {"noise": noise.numpy(), "conditions": _arrays(given), "steps": made.steps}
            if given:
                asked |= {"guidance": guidance, "null_conditions": _arrays(nulls)}
            return engine.sample(ROWS, **asked).x, want

        return Made(export, whole)

    return make


def _arrays(values: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value.numpy() for name, value in values.items()} or None


def _demo(_: Path) -> Made:
    def export(path: Path, precisions: Sequence[str]) -> None:
        from revstep.export import export_diffusers

        export_diffusers(DEMO, path, precisions=precisions, null_class=10)

    return Made(export, _demo_run)


def _demo_run(engine: Engine) -> Compared:
    import diffusers
    import torch

    unet: Any = diffusers.UNet2DModel
    network = unet.from_pretrained(DEMO / "unet", variant="fp16").float().eval()
    scheduler: Any = diffusers.DDIMScheduler
    scheduler = scheduler.from_pretrained(DEMO / "scheduler")
    labels = np.arange(4)
    noise = np.random.default_rng(3).standard_normal((4, 1, 32, 32)).astype(np.float32)
    conditions = {"class_labels": labels}
    own = engine.sample(4, noise=noise, steps=10, conditions=conditions, compat="diffusers")
    scheduler.set_timesteps(10)
    x = torch.from_numpy(noise)
    with torch.no_grad():
        for t in scheduler.timesteps:
            out = network(x, t, torch.from_numpy(labels), return_dict=False)[0]
            x = scheduler.step(out, t, x, return_dict=False)[0]
    return own.x, x.numpy()
