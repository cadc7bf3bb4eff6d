"""Scores diffusers' samples of the demo denoiser: the figures to compare ours with.

    python examples/fashion_mnist/score_diffusers.py --seeds 8
    python examples/fashion_mnist/score_diffusers.py --seeds 8 --steps 10 --spacing leading

prints one line per seed and a summary; 200 images by DDIM-20 take about 40 s on one core.
"""

import argparse
import importlib
import os
from pathlib import Path

import numpy as np
import torch
from score import Array, score

DENOISER = Path(__file__).parents[1] / "fashion_mnist_unet"
NULL_CLASS = 10
CHUNK = 50  # images per network call


@torch.no_grad()
def sample(labels: torch.Tensor, *, steps: int, spacing: str, guidance: float, seed: int) -> Array:
    """Returns (n, 1, 32, 32) images in [-1, 1] by DDIM with eta 0, x0 clipped, eps re-derived.

    Args:
        labels: (n,) int64 classes 0..9.
        steps: Number of DDIM steps.
        spacing: diffusers' timestep spacing, "trailing", "leading" or "linspace".
        guidance: g of ``uncond + g (cond - uncond)``.
        seed: Of the CPU generator of the start.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when diffusers is imported
    # Untyped, and a type checker that followed it would take its optional `kernels` for ours.
    diffusers = importlib.import_module("diffusers")
    network = diffusers.UNet2DModel.from_pretrained(
        DENOISER / "unet", variant="fp16", torch_dtype=torch.float32, low_cpu_mem_usage=False
    ).eval()
    scheduler = diffusers.DDIMScheduler.from_pretrained(
        DENOISER / "scheduler", timestep_spacing=spacing
    )
    scheduler.set_timesteps(steps)
    x = torch.randn(len(labels), 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    for t in scheduler.timesteps:
        outputs = []
        for start in range(0, len(x), CHUNK):
            part, classes = x[start : start + CHUNK], labels[start : start + CHUNK]
            cond = network(part, t, class_labels=classes).sample
            uncond = network(part, t, class_labels=torch.full_like(classes, NULL_CLASS)).sample
            outputs.append(uncond + guidance * (cond - uncond))
        x = scheduler.step(torch.cat(outputs), t, x, use_clipped_model_output=True).prev_sample
    return np.asarray(x.numpy(), np.float32)


def main() -> None:
    """Samples and scores each seed, then prints the spread."""
    parser = argparse.ArgumentParser(description="Score diffusers' samples of the denoiser.")
    parser.add_argument("--images", type=int, default=200, help="per seed, classes 0..9 in turn")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0..N-1")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--spacing", default="trailing", choices=["trailing", "leading", "linspace"]
    )
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    labels = torch.arange(arguments.images) % 10

    names = ("accuracy", "Fréchet distance", "pixel mean off by", "pixel std off by")
    rows = []
    for seed in range(arguments.seeds):
        images = sample(
            labels,
            steps=arguments.steps,
            spacing=arguments.spacing,
            guidance=arguments.guidance,
            seed=seed,
        )
        result = score(images, labels.numpy())
        row = (
            result.accuracy,
            result.frechet_distance,
            result.pixel_mean / result.real_pixel_mean - 1,
            result.pixel_std / result.real_pixel_std - 1,
        )
        rows.append(row)
        text = ", ".join(f"{n} {v:.3f}" for n, v in zip(names, row, strict=True))
        print(f"seed {seed}: {text}; {len(result.shortfalls())} limits missed", flush=True)
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name}: {min(values):.3f} to {max(values):.3f}, mean {np.mean(values):.3f}")


if __name__ == "__main__":
    main()
