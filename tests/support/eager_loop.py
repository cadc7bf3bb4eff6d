"""The eager loop in plain numpy: what a batch's run means, on every device, bit for bit."""

import numpy as np

from revstep import NetworkBuffers
from revstep.kernels import StepBuffers, noise, reference
from revstep.kernels import columns as col


def eager_loop(denoiser, program, batch, rows=None, *, x0=False, observe=None):
    """The final states (B, D) of a batch that has the network for itself.

    ``observe(number, steps)`` is called after every step with its number and the buffers.
    """
    spec, count = denoiser.spec, len(batch.seeds)
    network = NetworkBuffers.allocate(spec, rows or max(batch.rows, spec.batch[0]))
    call = denoiser.bind(network)
    steps = _buffers(spec, program, batch, network, x0)
    _place(program, batch, network, steps)
    for number in range(program.length):
        reference.begin_step(steps)
        call()
        reference.fused_step(steps)
        if observe is not None:
            observe(number, steps)
    return steps.x.reshape(count, *spec.shape)


def _buffers(spec, program, batch, network, x0):
    count, total = len(batch.seeds), len(network.t)

    def states():
        return np.zeros((count, spec.elements), np.float32)

    inpaint = batch.mask is not None
    return StepBuffers(
        table=program.table,
        base=np.zeros(count, np.int32),
        length=np.full(count, program.length, np.int32),
        counter=np.zeros(count, np.int32),
        current=np.zeros(count, np.int32),
        seed=batch.seeds.copy(),
        guidance=batch.guidance.copy(),
        cond_row=np.arange(count, dtype=np.int32),
        uncond_row=np.full(count, -1, np.int32),
        x=states(),
        output=network.out.reshape(total, -1),
        net_x=network.x.reshape(total, -1),
        net_t=network.t,
        net_t2=network.second,
        flags=np.zeros(count, np.int32),
        history=tuple(states() for _ in range(program.history)),
        x0=states() if x0 else None,
        mask=batch.mask.reshape(count, -1).copy() if inpaint else None,
        known=batch.known.reshape(count, -1).copy() if inpaint else None,
        learned_variance=spec.learned_variance,
    )


def _place(program, batch, network, steps):
    count, guided = len(batch.seeds), np.flatnonzero(batch.guidance != 1.0)
    used = count + len(guided)
    steps.uncond_row[guided] = np.arange(count, used)
    for name, buffer in network.conditions.items():
        buffer[:count] = batch.conditions[name]
        buffer[count:used] = batch.null_conditions[name][guided]
        buffer[used:] = batch.null_conditions[name][:1]
    alpha, sigma = (np.float32(v) for v in program.start)
    z = batch.noise
    if z is None:
        z = np.stack([noise.normals(int(s), 0, 1, steps.elements) for s in batch.seeds])
    steps.x[:] = sigma * z.reshape(count, -1)
    if batch.start is not None and alpha != 0.0:
        steps.x[:] += alpha * batch.start.reshape(count, -1)
    steps.net_x[:count] = program.table[0, col.C_IN] * steps.x
    steps.net_x[count:used] = steps.net_x[guided]
    network.t[:] = program.table[0, col.TIME]
    if network.second is not None:
        network.second[:] = program.table[0, col.TIME_2]
