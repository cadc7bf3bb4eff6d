"""That an engine is right, before it is timed: a whole run against the bundle's reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine
from revstep.engine.errors import ParityError
from revstep.export.parity.bounds import finding, recorded, relative_error, within
from revstep.export.parity.runs import STEPS


def check_engine(engine: Engine, bundle: Bundle) -> dict[str, float]:
    """``{"error": ..., "bound": ...}`` of the 20 steps that export recorded, as the engine runs.

    Raises:
        ParityError: NaN, or an error above the bound of its precision.
    """
    parity, spec = bundle.parity(), bundle.spec
    final = parity["ddim20.final"]
    count = len(final)
    conditions = {c.name: parity[f"ddim20.cond.{c.name}"][:count] for c in spec.conditions}
    steps = spec.grid_of().count or min(STEPS, spec.schedule.steps)
    drawn = engine.sample(
        count, sampler=spec.usual_sampler, steps=steps, seed=int(parity["ddim20.seed"]),
        conditions=conditions, decode=False,
    )  # fmt: skip
    described: dict[str, Any] = engine.describe()
    precision = str(described.get("precision", "fp32"))
    error = relative_error(np.asarray(drawn.x), final, rms=True)
    try:
        return within("a whole run", error, recorded(bundle.manifest, precision).ddim20)
    except ParityError as failed:
        raise ParityError(
            f"{bundle.path} in {described['backend']} ({precision}): {finding(failed)}; what is "
            "wrong is not timed: compile it again, or use another backend or precision"
        ) from failed
