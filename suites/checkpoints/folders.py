"""Kinds that come as diffusers folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suites.checkpoints.kind import Compared, Kind, Made

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

DEMO = Path(__file__).resolve().parents[2] / "examples" / "fashion_mnist_unet"
LOOP = "diffusers' scheduler around its network"


def folder_kinds() -> list[Kind]:
    """The bundled denoiser, and a small network of each class."""
    return [Kind("UNet2DModel, trained, class labels", "diffusers folder", LOOP, _demo)]


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
    own = engine.sample(4, noise=noise, steps=10, conditions={"class_labels": labels},
                        compat="diffusers")  # fmt: skip
    scheduler.set_timesteps(10)
    x = torch.from_numpy(noise)
    with torch.no_grad():
        for t in scheduler.timesteps:
            out = network(x, t, torch.from_numpy(labels), return_dict=False)[0]
            x = scheduler.step(out, t, x, return_dict=False)[0]
    return own.x, x.numpy()
