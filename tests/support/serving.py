"""Services under test: how requests end, and what must hold once all have."""

import numpy as np
from networks import NumpyDenoiser
from stepwise import SPEC, elementwise, until

from revstep import Engine, Service

LIMIT_S = 60.0  # that any wait may take on a busy machine; none comes near it


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


def assert_same_bits(got, want):
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))
