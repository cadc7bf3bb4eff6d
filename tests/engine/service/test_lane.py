"""A service whose device has one lane, which another run of the engine has."""

import threading

import pytest
from serving import LIMIT_S, assert_same_bits, device_engine_of, engine_of, outcome, settle
from stepwise import elementwise, until

from revstep import Service
from revstep.errors import ServiceClosedError

pytest.importorskip("torch")


@pytest.fixture
def gate():
    """Opened, it lets calls of another run through."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def service(gate):
    """Its engine is in a call of another run."""
    begun, other = threading.Event(), []

    def function(x, t, conditions):
        if threading.current_thread() in other:
            begun.set()
            assert gate.wait(LIMIT_S)
        return elementwise(x, t, conditions)

    engine = device_engine_of(function)
    with Service(engine, slots=4, warm_up=False) as service:
        sampling = threading.Thread(target=lambda: engine.sample(1, steps=2, seed=0))
        other.append(sampling)
        sampling.start()
        assert begun.wait(LIMIT_S)
        yield service
        gate.set()
        sampling.join(LIMIT_S)


def test_deadlines_pass_while_another_run_has_the_lane(service, gate):
    late = [service.submit(2, steps=5, deadline_s=0.05) for _ in range(3)]
    kept = service.submit(2, steps=5, seed=3, deadline_s=LIMIT_S)
    assert {outcome(job) for job in late} == {"DeadlineError"}
    assert not gate.is_set()
    assert "it passed in the queue" in str(late[0].exception())
    later = service.submit(1, steps=5, deadline_s=0.05)  # the thread takes up what comes meanwhile
    assert outcome(later) == "DeadlineError"
    gate.set()
    assert_same_bits(outcome(kept), engine_of().sample(2, steps=5, seed=3).x)
    assert settle(service, 5).outcomes["expired"] == 4


def test_what_ends_while_another_run_has_the_lane_is_kept_no_more(service):
    jobs = [service.submit(1, steps=5) for _ in range(100)]
    assert all(job.cancel() for job in jobs)
    until(lambda: len(service._worker._waiting) < len(jobs), "the ended requests to be let go")


def test_a_service_closes_while_another_run_has_the_lane(service, gate):
    waiting = service.submit(2, steps=5)
    service.close()
    assert not gate.is_set()
    with pytest.raises(ServiceClosedError, match="closed before this was done"):
        waiting.result(LIMIT_S)
    assert not service._worker.thread.is_alive()
