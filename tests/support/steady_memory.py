"""What thousands of mixed requests leave in memory, which only a process of its own shows.

A program: ``python steady_memory.py COUNT`` prints by how many bytes the process grew over so many
requests, and what Python traces over as many more: ``{"resident": 0, "traced": 0, ...}``.
"""

import contextlib
import ctypes
import dataclasses
import gc
import json
import logging
import os
import sys
import tracemalloc
from concurrent.futures import CancelledError, wait

import numpy as np
from serving import LIMIT_S, elementwise, settle
from serving import SPEC as SMALL

from revstep import Engine, Service
from revstep.errors import QueueFullError, RevstepError

SPEC = dataclasses.replace(SMALL, shape=(32, 32))  # the rows of a request take 4 to 24 KiB
FIRST = 1000  # requests after which caches and allocators have what they keep
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


def resident_bytes():
    """What the process has, without what its allocator only keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def traced_bytes():
    return tracemalloc.get_traced_memory()[0]


def grown(count, measure):
    """By how much it grew over so many requests to a new service, and how they ended."""
    rng = np.random.default_rng(0)
    with Service(Engine(Denoiser()), max_queue=64) as service:
        run(service, FIRST, rng)
        gc.collect()
        before = measure()
        run(service, count, rng)
        gc.collect()
        after = measure()
        return after - before, dict(settle(service, FIRST + count).outcomes)


def main(count):
    logging.getLogger("revstep").setLevel(logging.CRITICAL)
    resident, _ = grown(count, resident_bytes)
    tracemalloc.start()  # afterwards: its own tables are memory too
    traced, outcomes = grown(count, traced_bytes)
    found = {"resident": resident, "traced": traced, "outcomes": outcomes}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
