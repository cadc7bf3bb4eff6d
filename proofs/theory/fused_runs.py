"""Runs of the engine itself, float32 and the fused kernel: the mixture, and RePaint's law."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from proofs.theory.mixture import Float64, MixtureNetwork, three_modes
from proofs.theory.noise_processes import process
from proofs.theory.two_sample import TwoSample, two_sample
from revstep.engine.program.samplers import RePaint

if TYPE_CHECKING:
    from revstep.engine.engine import Engine


SAMPLES, STEPS, SEED = 4096, 250, 0
SAMPLERS = ("ddpm", "euler_ancestral", "dpmpp_2m_sde", "heun", "unipc")
KNOWN = 0.3  # the first coordinate
REPEATS = (1, 3, 10)


def mixture_engine() -> Engine:
    """An engine of the exact network, as a PyTorch module."""
    import torch

    from revstep.engine.open.module import from_module

    spec = dataclasses.replace(process("vp"), batch=(1, SAMPLES))
    network = MixtureNetwork(three_modes(), spec)

    class Exact(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))  # gives the module a device

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            m = network(x.numpy().astype(np.float64), float(t[0]))  # rows are at one step here
            return torch.from_numpy(m.astype(np.float32))

    return from_module(Exact(), spec, device="cpu")


def conditional_samples(count: int, seed: int) -> Float64:
    """Exact samples of the mixture whose first coordinate is ``KNOWN``, (count, 2)."""
    mixture, rng = three_modes(), np.random.default_rng(seed)
    density = np.exp(-0.5 * ((KNOWN - mixture.means[:, 0]) / mixture.widths) ** 2) / mixture.widths
    weights = mixture.weights * density
    k = rng.choice(len(weights), count, p=weights / weights.sum())
    second = mixture.means[k, 1] + mixture.widths[k] * rng.standard_normal(count)
    return np.stack([np.full(count, KNOWN), second], axis=1)


def repainted(engine: Engine, repeats: int, steps: int = 50) -> tuple[TwoSample, int]:
    """RePaint with the first coordinate known, against its exact law; and the network calls."""
    samples = engine.sample(
        SAMPLES,
        sampler=RePaint(jump_length=5, repeats=repeats),
        steps=steps,
        seed=SEED,
        mask=np.array([1.0, 0.0], np.float32),
        known=np.array([KNOWN, 0.0], np.float32),
    )
    exact = conditional_samples(SAMPLES, SEED)
    return two_sample(samples.x.astype(np.float64), exact), samples.calls


def fused_runs() -> dict[str, Any]:
    """The two-sample test of a few samplers, and RePaint's distance over its repeats."""
    engine, mixture = mixture_engine(), three_modes()
    rows = []
    for number, name in enumerate(SAMPLERS):
        x = engine.sample(SAMPLES, sampler=name, steps=STEPS, seed=SEED + SAMPLES * number).x
        test = two_sample(x.astype(np.float64), mixture.draw(SAMPLES, SEED + number))
        rows.append({"sampler": name, **test._asdict()})
    repaint = []
    for repeats in REPEATS:
        test, calls = repainted(engine, repeats)
        repaint.append({"repeats": repeats, "calls": calls, **test._asdict()})
    return {"samples": SAMPLES, "steps": STEPS, "known": KNOWN, "rows": rows, "repaint": repaint}
