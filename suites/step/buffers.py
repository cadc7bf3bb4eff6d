"""Buffers of a step at a given size: programs of one row, random rows, and bytes that must move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.schedule import VPSchedule
from revstep.kernels import columns as col

if TYPE_CHECKING:
    import torch

    from revstep.kernels.buffers import StepBuffers


STATE_BYTES = 4
TIMESTEP, NEXT_TIMESTEP = 500, 480


def ddim_row(alphas_cumprod: NDArray[np.float64], eta: float) -> NDArray[np.float32]:
    """Table row of one DDIM step from TIMESTEP to NEXT_TIMESTEP: epsilon, clip to [-1, 1].

    Args:
        alphas_cumprod: float64 [1000], alpha squared of the VP schedule.
        eta: 0 without noise, 1 for DDPM's variance.

    Returns:
        float32 [32] (`revstep.kernels.columns`).

    References:
        Song et al., "Denoising diffusion implicit models", 2021, eq. 12 and 16.
    """
    a, a_next = alphas_cumprod[TIMESTEP], alphas_cumprod[NEXT_TIMESTEP]
    s = eta * np.sqrt((1 - a_next) / (1 - a) * (1 - a / a_next))
    row = col.identity_row(TIMESTEP, 1.0)
    row[[col.ACTIVE, col.C_X]] = 1.0, 0.0
    row[[col.P_X, col.P_M]] = 1 / np.sqrt(a), -np.sqrt((1 - a) / a)
    row[[col.LO, col.HI]] = -1.0, 1.0
    row[[col.C_0, col.C_M, col.S]] = np.sqrt(a_next), np.sqrt(1 - a_next - s * s), s
    return row


def one_row(*, noise: bool, history: bool = False) -> NDArray[np.float32]:
    """A DDIM row (eta 1 with noise, 0 without); with history, one like DPM-Solver++(2M)'s.

    That one stores x0 and adds a part of the stored one.
    """
    row = ddim_row(VPSchedule().alphas_cumprod, 1.0 if noise else 0.0)
    if history:
        row[[col.C_0, col.H_1]] = 1.5 * row[col.C_0], -0.5 * row[col.C_0]
        row[[col.K_0, col.STORE]] = 1.0, 0.0
    return row


def random_row(rng: np.random.Generator, history: int) -> NDArray[np.float32]:
    """A row in which every coefficient is random, 1 or exactly 0."""
    row = col.identity_row(float(rng.uniform(0, 1000)), float(rng.choice([1.0, 0.7])))
    for c in (col.P_X, col.P_M, col.C_X, col.C_M, col.C_0, col.K_X, col.K_M, col.K_0, col.S):
        row[c] = rng.choice([0.0, 1.0, rng.normal()], p=[0.3, 0.1, 0.6])
    for k in range(history):
        row[col.H_1 + k] = rng.choice([0.0, rng.normal()])
        row[col.KH_1 + k] = rng.choice([0.0, rng.normal()])
    if rng.random() < 0.5:
        row[[col.LO, col.HI]] = -0.5, 0.7
    row[col.W] = rng.choice([0.0, 1.0, 0.6])
    row[col.STORE] = rng.integers(-1, history) if history else -1
    row[[col.NOISE, col.ACTIVE]] = rng.integers(col.NOISE_LIMIT), 1.0
    return row


def step_buffers(
    device: torch.device,
    rows: int,
    elements: int,
    dtype: torch.dtype,
    program: NDArray[np.float32],
    history: int = 0,
) -> StepBuffers:
    """Buffers of ``rows`` samples that all run one program; ``begin`` once, then ``step`` at will.

    Args:
        device: Where.
        rows: Samples, and network rows.
        elements: Per sample.
        dtype: The network's.
        program: float32 (columns,) or (length, columns): its active rows.
        history: Histories.
    """
    import torch

    from revstep.kernels.buffers import StepBuffers

    active = np.atleast_2d(program)
    table = np.concatenate([active, col.identity_row(0.0, 1.0)[None]])
    generator = torch.Generator(device).manual_seed(0)

    def normal(kind: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn((rows, elements), generator=generator, device=device).to(kind)

    def whole(value: int) -> torch.Tensor:
        return torch.full((rows,), value, dtype=torch.int32, device=device)

    return StepBuffers(
        table=torch.from_numpy(table).to(device),
        base=whole(0),
        length=whole(len(active)),
        counter=whole(0),
        current=whole(0),
        seed=torch.arange(rows, dtype=torch.int64, device=device),
        guidance=torch.ones(rows, device=device),
        cond_row=torch.arange(rows, dtype=torch.int32, device=device),
        uncond_row=whole(-1),
        x=normal(),
        output=normal(dtype),
        net_x=torch.zeros((rows, elements), dtype=dtype, device=device),
        net_t=torch.zeros(rows, device=device),
        flags=whole(0),
        history=tuple(normal() for _ in range(history)),
    )


def host_buffers(
    rows: int, elements: int, program: NDArray[np.float32], history: int = 0
) -> StepBuffers:
    """As ``step_buffers``, in numpy, of a float32 network: it needs no torch."""
    from revstep.kernels.buffers import StepBuffers

    active = np.atleast_2d(program)
    rng = np.random.default_rng(0)

    def normal() -> NDArray[np.float32]:
        return rng.standard_normal((rows, elements), np.float32)

    def whole(value: int) -> NDArray[np.int32]:
        return np.full(rows, value, np.int32)

    return StepBuffers(
        table=np.concatenate([active, col.identity_row(0.0, 1.0)[None]]),
        base=whole(0),
        length=whole(len(active)),
        counter=whole(0),
        current=whole(0),
        seed=np.arange(rows, dtype=np.uint64),
        guidance=np.ones(rows, np.float32),
        cond_row=np.arange(rows, dtype=np.int32),
        uncond_row=whole(-1),
        x=normal(),
        output=normal(),
        net_x=np.zeros((rows, elements), np.float32),
        net_t=np.zeros(rows, np.float32),
        flags=whole(0),
        history=tuple(normal() for _ in range(history)),
    )


def bytes_moved(count: int, dtype: torch.dtype, *, history: bool = False) -> int:
    """Bytes that a step of ``count`` elements must move, by the kernel's contract.

    State read and written, the network's output read and its next input written; with history,
    one history read and one stored.
    """
    network = 2 * dtype.itemsize
    return count * (2 * STATE_BYTES + network + (2 * STATE_BYTES if history else 0))
