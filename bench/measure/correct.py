"""That an engine is right, before it is timed: a whole run against the bundle's reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from revstep.bench.measure.cell import Cell
from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine
from revstep.engine.errors import ParityError
from revstep.export.parity.bounds import finding, recorded, relative_error, root_mean_square, within
from revstep.export.parity.runs import STEPS


def check_engine(engine: Engine, bundle: Bundle, cell: Cell) -> dict[str, float]:
    """``{"error": ..., "bound": ...}`` of the 20 steps that export recorded, as the engine runs.

    They run with the cell's rows, as an engine may have other code for other numbers of them.

    Raises:
        ParityError: NaN, or an error above the bound of its precision.
    """
    parity, spec = bundle.parity(), bundle.spec
    final = parity["ddim20.final"]
    chosen = np.arange(min(cell.rows, max(spec.batch[1], 1))) % len(final)
    conditions = {c.name: parity[f"ddim20.cond.{c.name}"][chosen] for c in spec.conditions}
    steps = spec.grid_of().count or min(STEPS, spec.schedule.steps)
    drawn = engine.sample(
        len(chosen), sampler=spec.usual_sampler, steps=steps,
        seed=[int(parity["ddim20.seed"]) + int(row) for row in chosen],
        conditions=conditions, decode=False,
    )  # fmt: skip
    described: dict[str, Any] = engine.describe()
    precision = str(described.get("precision", "fp32"))
    scale = root_mean_square(final)  # of all of it: a single row may be small
    error = relative_error(np.asarray(drawn.x), final[chosen], rms=True, scale=scale or 1.0)
    try:
        return within("a whole run", error, recorded(bundle.manifest, precision).ddim20)
    except ParityError as failed:
        raise ParityError(
            f"{bundle.path} in {described['backend']} ({precision}): {finding(failed)}; what is "
            "wrong is not timed: compile it again, or use another backend or precision"
        ) from failed
