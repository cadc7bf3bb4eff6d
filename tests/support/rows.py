"""Programs run in float64, straight from the formula of the design."""

import numpy as np

from revstep.kernels import columns as col


def run_rows(program, x, network, noise=None, variance=None):
    """The final state and all states of ``program`` from ``x``.

    ``network(x, time)`` gives m; ``noise(row)`` gives z; ``variance(x, time)`` gives the variance
    half of a learned-variance network.
    """
    states = []
    slots = [None, None, None]
    for number, r in enumerate(program.rows[:-1]):
        m = network(x, r[col.TIME])
        x0 = np.clip(r[col.P_X] * x + r[col.P_M] * m, r[col.LO], r[col.HI])
        new = r[col.C_X] * x + r[col.C_M] * m + r[col.C_0] * x0
        stored = r[col.K_X] * x + r[col.K_M] * m + r[col.K_0] * x0
        for k in range(3):
            if r[col.H_1 + k] != 0:
                new = new + r[col.H_1 + k] * slots[k]
            if r[col.KH_1 + k] != 0:
                stored = stored + r[col.KH_1 + k] * slots[k]
        if r[col.S] != 0:
            scale = r[col.S]
            if variance is not None:
                f = (variance(x, r[col.TIME]) + 1) / 2
                scale = scale * np.exp((f * r[col.LOG_BETA] + (1 - f) * r[col.LOG_BETA_TILDE]) / 2)
            new = new + scale * noise(number)
        if r[col.SLOT] >= 0:
            slots[int(r[col.SLOT])] = stored
        x = new
        states.append(x)
    return x, states
