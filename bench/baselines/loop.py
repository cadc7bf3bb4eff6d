"""The loop that one writes by hand, in the operators that numpy and torch share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from revstep.bench.baselines.protocol import Look
from revstep.bench.baselines.steps import Step, Terms

Array = Any  # a numpy array, or a torch tensor: all of one run are of one kind

Network = Callable[[Array, int], Array]
"""The network's output for the scaled states (n, *shape) in the call of that number: (rows, ...),
the unconditional half below the other."""


def run_steps(
    steps: Sequence[Step],
    network: Network,
    x: Array,
    *,
    guidance: float | None,
    noise: Callable[[int], Array],
    exp: Callable[[Array], Array],
    learned_variance: bool = False,
    look: Look | None = None,
) -> Array:
    """The final state of a run.

    Sums begin with a product, so that nothing that is kept is a buffer of the network's.

    Args:
        steps: The steps.
        network: The network.
        x: The initial state (n, *shape), float32.
        guidance: Of classifier-free guidance; None: the output has no second half.
        noise: Standard normals (n, *shape) of a step.
        exp: The library's.
        learned_variance: Whether the second half of the output's channels is a variance.
        look: Called after every network call.
    """
    n, channels = x.shape[0], x.shape[1]
    values: dict[str, Array] = {"x": x}
    for number, step in enumerate(steps):
        x = values["x"]
        fed = x if step.c_in == 1.0 else step.c_in * x
        out = network(fed, number)
        m, v = (out[:, :channels], out[:n, channels:]) if learned_variance else (out, None)
        if guidance is not None:
            given, without = m[:n], m[n:]
            m = without + (1.0 + step.weight * (guidance - 1.0)) * (given - without)
        if look is not None:
            look(number, fed, m)
        values["m"] = m
        if step.estimate is not None:
            x0 = _sum(step.estimate, values)
            values["x0"] = x0 if step.clip is None else x0.clip(*step.clip)
        if step.draws:
            values["z"] = noise(number)
            if v is not None:
                top, bottom = step.log_betas
                values["z"] = exp(0.5 * (0.5 * (v + 1.0) * (top - bottom) + bottom)) * values["z"]
        following = _sum(step.update, values)
        if step.stored:
            values[step.into] = _sum(step.stored, values)
        values["x"] = following
    return values["x"]


def _sum(terms: Terms, values: dict[str, Array]) -> Array:
    (coefficient, name), *others = terms
    total = coefficient * values[name]
    for coefficient, name in others:
        total += values[name] if coefficient == 1.0 else coefficient * values[name]
    return total
