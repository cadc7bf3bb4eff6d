"""Services under test: how requests end, and what must hold once all have."""

import threading

import numpy as np
import pytest
from networks import NumpyDenoiser
from stepwise import SECONDS, SPEC, elementwise, until

from revstep import Engine, NetworkBuffers, Service

LIMIT_S = SECONDS


def engine_of(function=elementwise, spec=SPEC, **options):
    return Engine(NumpyDenoiser(spec, function), **options)


def service_of(function=elementwise, spec=SPEC, **options):
    return Service(engine_of(function, spec), **options)


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
    left = (stats.queued, stats.running, stats.samples_waiting, stats.slots_in_use)
    return not any((*left, stats.rows_in_use))


def close_beside(service):
    """Closes it in a thread, which has told the service when this returns; gives the thread."""
    thread = threading.Thread(target=service.close, daemon=True)
    thread.start()
    worker = service._worker

    def told():
        with worker._idle:
            return worker._stopped

    until(told, "the end")
    return thread


def assert_same_bits(got, want):
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def device_engine_of(function=elementwise, spec=SPEC):
    """An engine on what stands for a GPU: tensors, buckets, graphs, and steps enqueued ahead."""
    pytest.importorskip("torch")
    from suites.torch_host import torch_host_runtime

    return Engine(torch_host_runtime(_TensorDenoiser(spec, function), buckets=(1, 2, 4, 8, 16)))


class _TensorDenoiser(NumpyDenoiser):
    """The function on views of tensors on the CPU."""

    stream = capturable = None

    def __init__(self, spec, function):
        import torch

        super().__init__(spec, function)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def bind(self, buffers):
        conditions = {name: value.numpy() for name, value in buffers.conditions.items()}
        return super().bind(
            NetworkBuffers(buffers.x.numpy(), buffers.t.numpy(), conditions, buffers.out.numpy())
        )
