"""A network that takes its steps when a test says so."""

import threading
import time

import numpy as np

from revstep import Condition, DenoiserSpec
from revstep.schedules import VPSchedule

SPEC = DenoiserSpec(
    shape=(2, 3),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="shift", null=0.25),),
    value_range=(-1.0, 1.0),
    batch=(1, 16),
)
SECONDS = 60.0  # that any wait may take on a busy machine; none comes near it


def elementwise(x, t, conditions):
    """So that a row's bits don't depend on its batch; NaN where the shift is NaN's stand-in, 13."""
    shape = (-1,) + (1,) * (x.ndim - 1)
    shift = conditions["shift"].reshape(shape).astype(np.float32)
    out = 0.9 * x + 0.0002 * t.reshape(shape) + 0.02 * shift
    return np.where(shift == 13.0, np.float32(np.nan), out)


class Stepwise:
    """A denoiser whose calls wait for ``allow``, once ``hold`` was called.

    Attributes:
        rows: Rows of each call so far.
        fail: Raised by the next call, where it is set.
        slow_s: What each call takes, at least.
    """

    def __init__(self, spec=SPEC, function=elementwise):
        self.spec, self.function = spec, function
        self.rows, self.inputs, self.fail, self.slow_s = [], [], None, 0.0
        self._turn = threading.Condition()
        self._allowed = None
        self.waiting = 0

    def bind(self, buffers):
        def call():
            with self._turn:
                self.waiting += 1
                self._turn.notify_all()
                assert self._turn.wait_for(lambda: self._allowed != 0, SECONDS)
                self.waiting -= 1
                if self._allowed is not None:
                    self._allowed -= 1
                self.rows.append(len(buffers.t))
            time.sleep(self.slow_s)
            self.inputs.extend(value.copy() for value in buffers.conditions.values())
            if self.fail is not None:
                error, self.fail = self.fail, None
                raise error
            buffers.out[:] = self.function(buffers.x, buffers.t, buffers.conditions)

        return call

    def describe(self):
        return {"backend": "stepwise"}

    def hold(self):
        """Calls wait from now on."""
        with self._turn:
            self._allowed = 0

    def allow(self, calls=1):
        """Lets so many calls through, and waits until the next one stands at the door."""
        with self._turn:
            self._allowed += calls
            self._turn.notify_all()
        self.wait_for_call()

    def wait_for_call(self):
        """Waits until a call stands at the door."""
        with self._turn:
            assert self._turn.wait_for(lambda: self.waiting and self._allowed == 0, SECONDS)

    def release(self):
        """Calls wait no more."""
        with self._turn:
            self._allowed = None
            self._turn.notify_all()


def until(condition, what="the condition", seconds=SECONDS):
    """Waits until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.001)
