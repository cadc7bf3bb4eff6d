"""Kinds that are whole text-to-image pipelines: prompt to picture, beside diffusers' own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suites.checkpoints.kind import Compared, Kind, Made
from suites.support import support

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

SOURCE, PIPELINE = "pipeline", "diffusers' pipeline, prompt to picture"
PROMPTS = ["a red fox in the snow, oil on canvas", "the cat"]
STEPS, GUIDANCE, TEXT = 6, 4.0, 16
LENGTHS = {"FluxPipeline": TEXT, "StableDiffusion3Pipeline": 77 + TEXT}  # with CLIP's
PIPELINES = {  # of tests/support/pipelines.py: class, title
    "stable_diffusion": ("StableDiffusionPipeline", "Stable Diffusion 1: CLIP, PNDM, VAE"),
    "stable_diffusion_xl": ("StableDiffusionXLPipeline", "SDXL: two CLIPs, Euler, VAE"),
    "stable_diffusion_3": ("StableDiffusion3Pipeline", "SD 3: two CLIPs and T5, flow, VAE"),
    "flux": ("FluxPipeline", "Flux: CLIP and T5, flow, VAE"),
}


def pipeline_kinds() -> list[Kind]:
    """A small pipeline of each family, its weights random."""
    needs = ("diffusers", "transformers", "tokenizers")
    return [
        Kind(title, SOURCE, PIPELINE, _maker(name, kind), needs)
        for name, (kind, title) in PIPELINES.items()
    ]


def _maker(name: str, kind: str) -> Any:
    def make(folder: Path) -> Made:
        root = getattr(support("pipelines"), name)(folder / "model")

        def export(path: Path, precisions: Sequence[str]) -> None:
            from revstep.export import export_diffusers

            export_diffusers(root, path, precisions=precisions, sequence_length=LENGTHS.get(kind))

        return Made(export, lambda engine: _run(engine, root, kind), scale=1.0)

    return make


def _run(engine: Engine, root: Path, kind: str) -> Compared:
    import diffusers
    import torch

    pipeline = getattr(diffusers, kind).from_pretrained(root)
    pipeline.set_progress_bar_config(disable=True)
    noise = np.random.default_rng(3).standard_normal((2, *engine.spec.shape)).astype(np.float32)
    latents = torch.from_numpy(noise)
    given: dict[str, Any] = {"guidance_scale": GUIDANCE, "num_inference_steps": STEPS}
    own: dict[str, Any] = {"steps": STEPS}
    if kind == "FluxPipeline":  # fed to the network, which has no unconditional half
        n, c, rows, columns = latents.shape
        latents = pipeline._pack_latents(latents, n, c, rows, columns)
        own["conditions"] = {"guidance": GUIDANCE}
    else:
        own["guidance"] = GUIDANCE
    if kind in LENGTHS:
        given["max_sequence_length"] = TEXT
    height, width = engine.spec.decoder.shape[1:] if engine.spec.decoder else (None, None)
    want = pipeline(PROMPTS, latents=latents, output_type="np", height=height, width=width, **given)
    drawn = engine.sample(2, prompt=PROMPTS, noise=noise, **own).numpy()
    picture = np.clip(drawn / 2.0 + 0.5, 0.0, 1.0).transpose(0, 2, 3, 1)
    return picture, want.images
