"""Services under test: a network whose steps a test holds, and what must hold once all is over."""

import threading
import time

import numpy as np
from networks import NumpyDenoiser

from revstep import Condition, DenoiserSpec, Engine, Service
from revstep.schedules import VPSchedule

LIMIT_S = 60.0  # that any wait may take on a busy machine; none comes near it

SPEC = DenoiserSpec(
    shape=(2, 3),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="shift", null=0.25),),
    batch=(1, 16),
)


def network(x, t, conditions):
    """Element by element, so that a row's bits don't depend on its batch."""
    shape = (-1, 1, 1)
    shift = 0.01 * t.reshape(shape) + conditions["shift"].reshape(shape)
    return 0.9 * x + 0.02 * shift


def engine_of(function=network, spec=SPEC, **options):
    return Engine(NumpyDenoiser(spec, function), **options)


def service_of(function=network, spec=SPEC, **options):
    return Service(engine_of(function, spec), **options)


def until(condition, what="the condition"):
    """Waits for a condition, with a limit."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.001)


class Gate:
    """A network whose calls wait while the gate is closed; ``inside`` tells of one that waits."""

    def __init__(self, function=network, *, opened=False):
        self.function = function
        self.open, self.inside = threading.Event(), threading.Event()
        if opened:
            self.open.set()

    def __call__(self, x, t, conditions):
        self.inside.set()
        assert self.open.wait(LIMIT_S)
        return self.function(x, t, conditions)

    def wait_inside(self):
        assert self.inside.wait(LIMIT_S)


def outcome(job):
    """How a job ended: its states, or the name of its error. Fails where it doesn't end."""
    try:
        return job.result(timeout=LIMIT_S).x
    except TimeoutError as error:
        raise AssertionError("a request without an answer") from error
    except BaseException as error:
        return type(error).__name__


def settle(service, submitted=None):
    """Waits for the end of all requests, and checks that nothing is left of them."""
    until(lambda: _empty(service.stats()), f"the end of all requests: {service.stats()}")
    found = service.stats()
    if submitted is not None:
        assert sum(found.outcomes.values()) == submitted, found.outcomes
    return found


def _empty(stats):
    return not (
        stats.queued
        or stats.running
        or stats.samples_waiting
        or stats.slots_in_use
        or stats.rows_in_use
    )


def assert_same_bits(got, want):
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))
