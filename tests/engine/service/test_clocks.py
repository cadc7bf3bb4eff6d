"""Clocks: wall clocks may jump; deadlines, timings and turns go by one that never goes back."""

import datetime
import math
import time

import pytest
from serving import LIMIT_S, assert_same_bits, engine_of, outcome, service_of, settle
from stepwise import Stepwise, until

from revstep import Engine, Service
from revstep.engine.service import job as job_module
from revstep.engine.service import worker as worker_module

CENTURY_S = 3e9


@pytest.fixture(params=[-CENTURY_S, CENTURY_S, math.inf], ids=["back", "ahead", "to and fro"])
def wall_clock(request, monkeypatch):
    """Wall clocks that jump, once ``jump`` was called; at every look, to and fro."""
    real, real_ns, looks = time.time, time.time_ns, 0

    def offset():
        nonlocal looks
        looks += 1
        jump = request.param
        return (-CENTURY_S, CENTURY_S)[looks % 2] if jump == math.inf else jump

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(seconds=offset())

    def jump():
        monkeypatch.setattr(time, "time", lambda: real() + offset())
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(offset() * 1e9))
        monkeypatch.setattr(datetime, "datetime", Jumping)

    return jump


def test_wall_clocks_that_jump_change_no_deadline_no_timing_and_no_bits(wall_clock):
    network = Stepwise()
    network.hold()
    with Service(Engine(network), slots=4, warm_up=False) as service:
        running = service.submit(4, steps=5, seed=1, deadline_s=1000.0)
        waiting = service.submit(2, steps=5, seed=2, deadline_s=1000.0)
        late = service.submit(1, steps=5, deadline_s=0.01)
        network.wait_for_call()
        wall_clock()
        until(lambda: time.monotonic() > late.deadline)
        network.release()
        alone = engine_of()
        assert_same_bits(outcome(running), alone.sample(4, steps=5, seed=1).x)
        assert_same_bits(outcome(waiting), alone.sample(2, steps=5, seed=2).x)
        assert outcome(late) == "DeadlineError"
        stats = settle(service, 3)
        for job in (running, waiting, late):
            assert 0.0 <= job.timing.queued_s <= LIMIT_S
            assert 0.0 <= job.timing.run_s <= LIMIT_S
        for times in (stats.queued_s, stats.run_s, stats.step_s, stats.network_s):
            assert 0.0 <= times.p50 <= times.p99 <= LIMIT_S
        assert service.drain(timeout_s=LIMIT_S)


def test_a_clock_that_stands_still_lets_all_finish(monkeypatch):
    """As a coarse one does between its ticks: turns are counted, and no time is divided by."""
    now = time.monotonic()
    with service_of() as service:
        monkeypatch.setattr(job_module, "monotonic", lambda: now)
        monkeypatch.setattr(worker_module, "monotonic", lambda: now)
        monkeypatch.setattr(worker_module, "perf_counter", lambda: now)
        jobs = [service.submit(20, steps=3, priority=k % 3, deadline_s=5.0) for k in range(20)]
        assert all(outcome(job).shape[0] == 20 for job in jobs)
        assert settle(service, 20).step_s.total == 0.0


def test_a_machine_that_slept_expires_what_is_late_and_goes_on(monkeypatch):
    """The monotonic clock may leap ahead between two looks, where it counts a sleep too."""
    network = Stepwise()
    network.hold()
    with Service(Engine(network), slots=4, warm_up=False) as service:
        late = [service.submit(4, steps=5, deadline_s=100.0) for _ in range(3)]
        kept = service.submit(2, steps=5, seed=3)
        network.wait_for_call()
        monkeypatch.setattr(worker_module, "monotonic", lambda: time.monotonic() + 3600.0)
        monkeypatch.setattr(job_module, "monotonic", lambda: time.monotonic() + 3600.0)
        network.release()
        assert {outcome(job) for job in late} == {"DeadlineError"}
        assert_same_bits(outcome(kept), engine_of().sample(2, steps=5, seed=3).x)
        assert_same_bits(
            outcome(service.submit(2, steps=5, seed=3, deadline_s=50.0)), kept.result().x
        )
        assert settle(service, 5).outcomes["expired"] == 3
