"""Programs run in float64, straight from the formula of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.program.table import StepProgram
from revstep.kernels import columns as col


def run_rows(
    program: StepProgram,
    x: NDArray[Any],
    network: Callable[..., Any],
    noise: Callable[[int], Any] | None = None,
    variance: Callable[[Any, float], Any] | None = None,
    *,
    instead: Mapping[int, Any] | None = None,
    two_times: bool = False,
) -> tuple[Any, list[Any]]:
    """The final state and all states of ``program`` from ``x``.

    Args:
        program: The rows.
        x: The initial state, at the program's first point.
        network: ``network(c_in x, time)`` gives m; of two times it is given the second too.
        noise: ``noise(row)`` gives z.
        variance: ``variance(x, time)`` gives the variance half of a learned-variance network.
        instead: Row number -> the state that takes the place of that row's result: multistep
            methods are so started on the exact flow.
        two_times: Whether the network takes a second time.
    """
    states = []
    history: list[Any] = [None, None, None]
    for number, r in enumerate(program.rows[:-1]):
        times = (r[col.TIME], r[col.TIME_2]) if two_times else (r[col.TIME],)
        m = network(r[col.C_IN] * x, *times)
        x0 = np.clip(r[col.P_X] * x + r[col.P_M] * m, r[col.LO], r[col.HI])
        new = r[col.C_X] * x + r[col.C_M] * m + r[col.C_0] * x0
        stored = r[col.K_X] * x + r[col.K_M] * m + r[col.K_0] * x0
        for k in range(3):
            if r[col.H_1 + k] != 0:
                new = new + r[col.H_1 + k] * history[k]
            if r[col.KH_1 + k] != 0:
                stored = stored + r[col.KH_1 + k] * history[k]
        if r[col.S] != 0:
            assert noise is not None
            scale = r[col.S]
            if variance is not None:
                f = (variance(x, r[col.TIME]) + 1) / 2
                scale = scale * np.exp((f * r[col.LOG_BETA] + (1 - f) * r[col.LOG_BETA_TILDE]) / 2)
            new = new + scale * noise(number)
        if r[col.STORE] >= 0:
            history[int(r[col.STORE])] = stored
        x = new if instead is None else instead.get(number, new)
        states.append(x)
    return x, states
