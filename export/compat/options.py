"""What a caller of ``step`` asks for beside the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from revstep.engine.errors import ArgumentError
from revstep.export.compat.plan import CLIPPED, Options

NOT_IN_ROWS = {
    "s_churn": "it adds noise before a call that diffusers made already; take DDIM with eta, or an "
    "ancestral scheduler",
    "per_token_timesteps": "a row is of one time for all elements of a sample",
    "pred_original_sample": "a row takes the network's output",
}
WITHOUT_CHURN = ("s_tmin", "s_tmax", "s_noise")
ORDERS = (1, 2, 3, 4)


def step_options(
    counting: tuple[str, ...], defaults: Mapping[str, Any], given: dict[str, Any]
) -> Options:
    """The options of a ``step`` that rows depend on.

    Args:
        counting: Their names.
        defaults: All that the scheduler's own step takes beside the tensors, and its defaults.
        given: What the caller gave.

    Raises:
        ArgumentError: One that no row has.
        TypeError: One that the scheduler doesn't have either.
    """
    if unknown := [name for name in given if name not in defaults]:
        raise TypeError(f"step() got an unexpected keyword argument {unknown[0]!r}")
    for name, reason in NOT_IN_ROWS.items():
        value = given.get(name)
        if value is not None and (name != "s_churn" or value != 0):
            shown = value if name == "s_churn" else "a tensor"
            raise ArgumentError(
                f"{name}={shown} is refused: {reason}. Leave it out, or use diffusers' own "
                "scheduler",
                name,
            )
    found = {name: given.get(name, defaults[name]) for name in counting}
    if "order" in found and found["order"] not in ORDERS:
        raise ArgumentError(
            f"order={found['order']!r} is refused: a row reads the slopes of at most three earlier "
            "calls. Use 1, 2, 3 or 4",
            "order",
        )
    if CLIPPED in found:  # pipelines give None for it
        found[CLIPPED] = bool(found[CLIPPED])
    return tuple(found.items())
