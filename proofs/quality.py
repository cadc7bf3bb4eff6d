"""Quality against steps on the bundled denoiser: eight samplers at 5, 10, 20 and 50 steps.

The Fréchet distance on the features of the example's small classifier, and the share of images
that it gives the class asked for.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from revstep.bench.rows import new_row
from revstep.engine.spec.grids import Grid, KarrasGrid

EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLERS: dict[str, Grid | None] = dict.fromkeys(
    ("ddpm", "ddim", "heun", "dpmpp_2m", "dpmpp_3m", "dpmpp_2m_sde", "unipc", "ipndm")
)
# The mean of two slopes over sigma / alpha is lost on this schedule's own first step, which falls
# from 20,000 to a few hundred: Heun gets the grid of its paper.
SAMPLERS["heun"] = KarrasGrid(sigma_max=80.0)
STEPS = (5, 10, 20, 50)
IMAGES = 120
SEED = 5000
REPEATED, REPEATS = ("ddim", 20), (6000, 7000, 8000, 9000)  # by other seeds: the spread
GUIDANCE = 1.0  # off: the law that the network was trained for
THREADS = 2


def quality(
    images: int = IMAGES,
    steps: Sequence[int] = STEPS,
    samplers: Iterable[str] = SAMPLERS,
    repeats: Sequence[int] = REPEATS,
) -> Iterator[dict[str, Any]]:
    """One row per sampler and number of steps, and a few of other seeds."""
    from revstep.engine.open.bundle import load

    score = example("score").score
    labels = np.arange(images) % 10
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "demo.revstep"
        _export(bundle)
        engine = load(bundle, device="cpu", threads=THREADS)
        wanted = [(name, count, SEED) for name in samplers for count in steps]
        for name, count, seed in [*wanted, *((*REPEATED, seed) for seed in repeats)]:
            samples = engine.sample(
                seed=seed, sampler=name, steps=count, guidance=GUIDANCE, grid=SAMPLERS[name],
                conditions={"class_labels": labels},
            )  # fmt: skip
            found = score(np.clip(samples.x, -1.0, 1.0), labels)  # as pictures are
            row = {
                "sampler": name,
                "steps": count,
                "spacing": str(SAMPLERS[name] or engine.spec.grid),
                "calls": samples.calls,
                "images": images,
                "guidance": GUIDANCE,
                "seed": seed,
                "frechet_distance": round(found.frechet_distance, 3),
                "accuracy": round(found.accuracy, 4),
                "real_accuracy": found.real_accuracy,
            }
            yield new_row("quality_steps", row)


def _export(bundle: Path) -> None:
    """By the command line: bench and export know nothing of each other."""
    command = [sys.executable, "-m", "revstep", "export"]
    command += ["--diffusers", str(EXAMPLES / "fashion_mnist_unet"), "-o", str(bundle)]
    subprocess.run([*command, "--precision", "fp32", "--null-class", "10"], check=True)


def example(name: str) -> ModuleType:
    """A script of the Fashion-MNIST example, which is no package."""
    path = EXAMPLES / "fashion_mnist" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # train_classifier imports score by that name
    spec.loader.exec_module(module)
    return module


def same_but_seed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that differ in their seeds alone: the spread by chance."""
    first = rows[0]
    other = [row for row in rows if row["seed"] != first["seed"]]
    point = [(other or [first])[0][key] for key in ("sampler", "steps")]
    return [row for row in rows if [row["sampler"], row["steps"]] == point]
