"""Memory: flat over thousands of mixed requests, however they come and end."""

import contextlib
import gc
import logging
import tracemalloc
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest
from serving import LIMIT_S, SPEC, elementwise, settle

from revstep import Engine, Service
from revstep.errors import QueueFullError, RevstepError

TRACED = 600 << 10  # bytes that may be more at the end, as caches fill: 60 of each request
RESIDENT = 12 << 20  # of the whole process, with what its allocators keep
SAMPLERS = ("ddim", "ddpm", "dpmpp_3m", "heun")
NAN, FAILS = 13.0, 12.0  # shifts: of rows that turn NaN, and of calls that raise


class Denoiser:
    """A network that keeps nothing, unlike those of other tests."""

    spec = SPEC

    def bind(self, buffers):
        def call():
            if (buffers.conditions["shift"] == FAILS).any():
                raise RuntimeError("this call fails")
            buffers.out[:] = elementwise(buffers.x, buffers.t, buffers.conditions)

        return call

    def describe(self):
        return {"backend": "numpy"}


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def mixed(rng):
    """Arguments of a random request; some of them fail, expire or are refused."""
    shift = float(rng.choice((0.1, 0.5, NAN, FAILS), p=(0.5, 0.46, 0.03, 0.01)))
    found = {
        "n": int(rng.integers(1, 7)),
        "sampler": str(rng.choice(SAMPLERS)),
        "steps": int(rng.choice((2, 7, 30))),
        "conditions": {"shift": shift},
        "priority": int(rng.integers(-2, 3)),
        "previews": int(rng.choice((0, 0, 0, 2))),
    }
    if rng.random() < 0.3:
        found["guidance"] = float(rng.random() * 5.0)
    if rng.random() < 0.1:
        found["deadline_s"] = float(rng.choice((1e-5, 1e-3, 1e4)))
    if rng.random() < 0.1:
        found["known"] = np.zeros(SPEC.shape, np.float32)
        found["mask"] = np.ones(SPEC.shape, np.float32)
    if rng.random() < 0.1:
        found["start"] = np.zeros(SPEC.shape, np.float32)
    return found


def run(service, count, rng):
    """Submits so many requests, in bursts that the queue has no room for at times."""
    jobs, left = [], count
    while left:
        try:
            jobs.append(service.submit(**mixed(rng)))
        except QueueFullError:
            wait(jobs[: len(jobs) // 2 + 1], LIMIT_S)
            jobs = [job for job in jobs if not job.done()]
        left -= 1
        if jobs and rng.random() < 0.1:
            jobs[int(rng.integers(len(jobs)))].cancel()
        if jobs and rng.random() < 0.02:
            with contextlib.suppress(RevstepError, CancelledError):
                next(jobs[-1].progress())
    assert not wait(jobs, LIMIT_S).not_done


def measured():
    gc.collect()
    return tracemalloc.get_traced_memory()[0], resident_bytes()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_is_flat_over_many_mixed_requests(count, caplog):
    caplog.set_level(logging.CRITICAL, logger="revstep")  # it would be kept
    rng = np.random.default_rng(0)
    with Service(Engine(Denoiser()), max_queue=64) as service:
        tracemalloc.start()
        try:
            run(service, 600, rng)
            before = measured()
            run(service, count, rng)
            after = measured()
        finally:
            tracemalloc.stop()
        stats = settle(service, 600 + count)
        assert min(stats.outcomes.values()) > 0, stats.outcomes  # they ended in every way
    assert after[0] - before[0] < TRACED, (before, after)
    assert after[1] - before[1] < RESIDENT, (before, after)
