"""What the service itself takes for a step of 64 slots: processor time of its thread alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.engine import Engine
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule
from suites.service.asks import Ask, mixed_asks
from suites.service.load import closed_loop
from suites.service.parts import Setting
from suites.service.sides import InFlight, on_core

SLOTS = 64
NETWORK_S = 400e-6  # of a call: long enough that the service looks at its queue after each
STEPS = 1000  # of requests that stay
ROUNDS = 5


class Spin:
    """A network that takes time and gives zeros; it knows the processor time that it took."""

    def __init__(self) -> None:
        self.spec = DenoiserSpec(
            shape=(16, 7), schedule=VPSchedule(), prediction="epsilon", batch=(1, SLOTS)
        )
        self.spent = 0.0

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that spins."""

        def call() -> None:
            begun = time.thread_time()
            until = begun + NETWORK_S
            while (now := time.thread_time()) < until:
                pass
            self.spent += now - begun

        return call

    def describe(self) -> dict[str, Any]:
        """What runs."""
        return {"backend": "none"}


def scheduler_row(setting: Setting) -> dict[str, Any]:
    """Seconds of the service's thread outside the network, for each step.

    ``staying``: 64 requests that step together, nobody comes or goes. ``mixed``: requests of 10 to
    50 steps with a backlog, some two of which come and go at every step. ``lane``: the same steps
    as ``staying`` without a service: the fused step and its call.
    """
    rounds = setting.count(ROUNDS)
    found = [_round(setting) for _ in range(rounds)]
    middle = {name: median(times[name] for times in found) for name in found[0]}
    return {"seconds": middle, "slots": SLOTS, "rounds": rounds}


def _round(setting: Setting) -> dict[str, float]:
    network = Spin()
    engine = Engine(network)
    staying = [Ask("ddim", STEPS, seed, {}) for seed in range(SLOTS)]
    mixed = mixed_asks(network.spec, 40 * SLOTS, setting.seed)
    with on_core(setting.core):
        side = InFlight(engine, SLOTS)
        side.submit(staying[0]).result()
    try:
        with on_core(setting.generator_core):
            found = {
                "staying": _each_step(side, network, lambda: _all(side, staying)),
                "mixed": _each_step(
                    side,
                    network,
                    lambda: closed_loop(side.submit, mixed, 2 * SLOTS, uncounted=SLOTS),
                ),
            }
    finally:
        side.close()
    with on_core(setting.core):
        found["lane"] = _lane(engine, network)
    return found


def _all(side: InFlight, asks: list[Ask]) -> None:
    for future in [side.submit(ask) for ask in asks]:
        future.result()


def _each_step(side: InFlight, network: Spin, work: Callable[[], object]) -> float:
    """Processor seconds of the service's thread outside the network, for each of its steps."""
    clock = time.pthread_getcpuclockid(side.thread_id)
    steps, spent, begun = side.service.stats().steps, network.spent, time.clock_gettime(clock)
    work()
    taken = time.clock_gettime(clock) - begun - (network.spent - spent)
    return taken / (side.service.stats().steps - steps)


def _lane(engine: Engine, network: Spin) -> float:
    run, batch = engine.resolve(n=1, sampler="ddim", steps=STEPS, seed=0)
    with engine.runtime.hold(SLOTS, fixed=False)() as lane:
        for _ in range(SLOTS):
            lane.admit(run.program, batch)
        spent, begun = network.spent, time.thread_time()
        done = lane.run(STEPS)
        taken = time.thread_time() - begun - (network.spent - spent)
        lane.empty()
    return taken / done
