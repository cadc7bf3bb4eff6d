"""What does the service's scheduler cost a request? The network does nothing."""

from __future__ import annotations

import numpy as np
import pytest

import revstep
from revstep.schedules import VPSchedule
from suites.cpu.tasks import Nothing
from suites.questions.compare import Compare
from suites.service.asks import Ask
from suites.service.sides import InFlight, OneAtATime, Side, WholeGenerations

REQUESTS, STEPS = 64, 50


@pytest.mark.parametrize("mixed", [False, True], ids=["equal", "mixed"])
def test_scheduler(compare: Compare, mixed: bool) -> None:
    spec = revstep.DenoiserSpec(
        shape=(16, 7), schedule=VPSchedule(), prediction="epsilon", batch=(1, REQUESTS)
    )
    engine = revstep.Engine(Nothing(spec))
    steps = np.linspace(10, STEPS, REQUESTS).astype(int) if mixed else [STEPS] * REQUESTS
    asks = [Ask("ddim", int(count), seed, {}) for seed, count in enumerate(steps)]

    def answered(side: Side) -> list[np.ndarray]:
        return [future.result().x for future in [side.submit(ask) for ask in asks]]

    ours = InFlight(engine, REQUESTS)
    others: dict[str, Side] = {
        "whole generations": WholeGenerations(engine, REQUESTS),
        "one at a time": OneAtATime(engine),
    }
    try:
        want = answered(ours)
        for side in others.values():
            for x, y in zip(want, answered(side), strict=True):
                np.testing.assert_array_equal(x, y)
        tasks = {name: lambda side=side: answered(side) for name, side in others.items()}
        what = f"10 to {STEPS} steps" if mixed else f"{STEPS} steps"
        compare(
            f"one of {REQUESTS} requests of {what}", lambda: answered(ours), tasks, per=REQUESTS,
            apart=0.0,
        )  # fmt: skip
    finally:
        for side in (ours, *others.values()):
            side.close()
