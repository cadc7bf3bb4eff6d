"""The commands whose rows are committed: each answers a question of somebody who has a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

BUNDLE = "fashion_mnist_unet.revstep"
MODEL = Path("examples/fashion_mnist_unet")
FULL = "--batch 1,16 --sampler ddim --steps 20 --threads 1 --noise 0"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of ``revstep``.

    Attributes:
        question: That its rows answer, as they name it.
        words: After ``revstep``; where the bundle lies stands as its name alone.
    """

    question: str
    words: str

    def __str__(self) -> str:
        """As one types it."""
        return f"revstep {self.words}"

    def words_in(self, folder: Path) -> list[str]:
        """Its words, the bundle being in a folder."""
        return [str(folder / word) if word == BUNDLE else word for word in self.words.split()]


MADE = (
    Command("export", f"export --diffusers {MODEL} --null-class 10 -o {BUNDLE}"),
    Command("compile", f"compile {BUNDLE} --threads 1 --seconds 10"),
)
"""Make the bundle."""

# a p99 takes 528 runs or arrivals: so many fit the seconds at batch 1, and at the lowest rate
ASKED = (
    Command("runs", f"bench run {BUNDLE} {FULL} --seconds 24"),
    Command(
        "fewer_steps",
        f"bench run {BUNDLE} {FULL.replace('ddim --steps 20', 'dpmpp_2m --steps 10')} "
        "--seconds 14 --cold 0",
    ),
    Command(
        "baselines",
        f"bench run {BUNDLE} {FULL.replace('--steps 20', '--steps 10')} --seconds 15 --cold 0 "
        f"--vs onnxruntime,torch-eager,diffusers --diffusers {MODEL}",
    ),
    Command(
        "service",
        f"bench serve {BUNDLE} --p99 250ms --deadline 100ms --sampler dpmpp_2m --steps 10 "
        "--threads 1 --seconds 22",
    ),
)
"""Measure it, in this order; each appends rows."""
