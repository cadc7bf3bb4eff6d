"""The loop: begin_step, network, fused step, until the program ends.

This eager loop is the meaning of every run; faster loops must give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.pool import Workspace
from revstep.engine.runtime.timing import Timing
from revstep.kernels import StepBuffers, StepKernel, normal_fill
from revstep.kernels import columns as col

__all__ = ["run_batch"]

KEPT_BYTES = 1 << 22  # of states that a workspace keeps for the next run: what is small is fast
INITIAL_STREAM = 1  # Philox stream of the initial noise; 0 is the steps', 2 is inpainting's


def run_batch(
    program: StepProgram,
    batch: Batch,
    workspace: Workspace,
    *,
    learned_variance: bool = False,
    observe: Callable[[int, StepBuffers], None] | None = None,
    want_x0: bool = False,
    timing: Timing | None = None,
) -> NDArray[np.float32]:
    """Runs ``program`` on every sample of ``batch``; returns the final states (B, D), float32.

    Args:
        program: The program, the same for all.
        batch: The samples.
        workspace: At least ``batch.rows`` network rows.
        learned_variance: Whether the network's output has a variance half.
        observe: Called after every step with its number (from 0) and the buffers; what it raises
            ends the run.
        want_x0: Whether the buffers hold the denoised estimate for ``observe``.
        timing: Filled with the times in and outside the network.
    """
    steps, kernel = _prepared(program, batch, workspace, learned_variance, want_x0)
    place(program, batch, workspace.buffers, steps)
    network = workspace.network
    for number in range(program.length):
        begun = perf_counter_ns()
        kernel.begin()
        called = perf_counter_ns()
        network()
        returned = perf_counter_ns()
        kernel.step()
        if timing is not None:
            timing.network_ns.append(returned - called)
            timing.outside_ns.append(perf_counter_ns() - returned + called - begun)
        if observe is not None:
            observe(number, steps)
    x: NDArray[np.float32] = steps.x
    return x.copy() if workspace.steps else x


def _prepared(
    program: StepProgram, batch: Batch, workspace: Workspace, learned_variance: bool, want_x0: bool
) -> tuple[StepBuffers, StepKernel]:
    """The step's buffers, validated once for all runs of one form that follow each other."""
    count, inpaint = len(batch.seeds), batch.mask is not None
    form = (program.key, count, want_x0, inpaint)
    if form not in workspace.steps:
        workspace.steps.clear()
        steps = _allocate(program, count, workspace.buffers, learned_variance, want_x0, inpaint)
        states = 1 + len(steps.history) + want_x0 + 2 * inpaint
        found = steps, StepKernel(steps)
        if states * steps.x.nbytes > KEPT_BYTES:
            return found
        workspace.steps[form] = found
    return workspace.steps[form]


def _allocate(
    program: StepProgram,
    count: int,
    network: NetworkBuffers,
    learned_variance: bool,
    want_x0: bool,
    inpaint: bool,
) -> StepBuffers:
    total = len(network.t)
    flat_x = network.x.reshape(total, -1)

    def states() -> NDArray[np.float32]:
        return np.zeros((count, flat_x.shape[1]), np.float32)

    return StepBuffers(
        table=program.table,
        base=np.zeros(count, np.int32),
        length=np.full(count, program.length, np.int32),
        counter=np.zeros(count, np.int32),
        current=np.zeros(count, np.int32),
        seed=np.zeros(count, np.uint64),
        guidance=np.ones(count, np.float32),
        cond_row=np.arange(count, dtype=np.int32),
        uncond_row=np.full(count, -1, np.int32),
        x=states(),
        output=network.out.reshape(total, -1),
        net_x=flat_x,
        net_t=network.t,
        flags=np.zeros(count, np.int32),
        history=tuple(states() for _ in range(program.history)),
        x0=states() if want_x0 else None,
        mask=states() if inpaint else None,
        known=states() if inpaint else None,
        learned_variance=learned_variance,
    )


def place(program: StepProgram, batch: Batch, network: NetworkBuffers, steps: StepBuffers) -> None:
    """Writes state, network input, conditions and maps for step 0."""
    count, guided = len(batch.seeds), batch.guided
    used = count + len(guided)
    for name, buffer in network.conditions.items():
        buffer[:count] = batch.conditions[name]
        buffer[count:used] = batch.null_conditions[name][guided]
        buffer[used:] = batch.null_conditions[name][:1]
    steps.seed[:], steps.guidance[:] = batch.seeds, batch.guidance
    steps.counter[:] = steps.flags[:] = 0
    steps.uncond_row[:] = -1
    steps.uncond_row[guided] = np.arange(count, used)
    if steps.mask is not None and steps.known is not None:
        assert batch.mask is not None
        assert batch.known is not None
        steps.mask[:], steps.known[:] = (v.reshape(count, -1) for v in (batch.mask, batch.known))
    _initial_state(program, batch, steps.x)
    c_in = program.table[0, col.C_IN]
    flat_x = steps.net_x
    flat_x[:count] = steps.x if c_in == 1.0 else c_in * steps.x
    flat_x[count:used] = flat_x[guided]
    flat_x[used:] = 0.0
    network.t[:] = program.table[0, col.TIME]


def _initial_state(program: StepProgram, batch: Batch, x: NDArray[np.float32]) -> None:
    alpha, sigma = (np.float32(v) for v in program.start)
    if batch.noise is not None:
        np.multiply(sigma, batch.noise.reshape(x.shape), out=x)
    else:
        normal_fill(x, batch.seeds, 0, INITIAL_STREAM)
        x *= sigma
    if batch.start is not None and alpha != 0.0:
        x += alpha * batch.start.reshape(x.shape)
