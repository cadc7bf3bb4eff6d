"""How requests end where somebody exits, and what is held of them then: nothing."""

import gc
import threading
import time
import weakref

import pytest
from serving import device_engine_of, elementwise
from stepwise import Stepwise, until

from revstep import Engine, Service
from revstep.errors import BackendError

LIMIT_S = 20.0


@pytest.fixture
def network():
    return Stepwise()


@pytest.fixture
def service(network):
    with Service(Engine(network), slots=4) as made:
        yield made
        network.release()


def test_a_network_that_exits_its_thread_fails_its_call_and_the_service_goes_on(service, network):
    network.fail = SystemExit("the network exits")
    with pytest.raises(BackendError, match="the network exits"):
        service.submit(1, steps=3, seed=0).result(LIMIT_S)
    assert service.submit(1, steps=3, seed=0).result(LIMIT_S).calls == 3


def test_a_decoder_that_exits_its_thread_ends_its_request(network):
    def decode(states):
        raise SystemExit("the decoder exits")

    with Service(Engine(network, decoder=decode), slots=4) as service:
        assert isinstance(service.submit(1, steps=2).exception(LIMIT_S), SystemExit)
        assert service.submit(1, steps=2, decode=False).result(LIMIT_S).calls == 2


def test_a_listener_that_raises_ends_nobodys_request(service, network, caplog):
    network.hold()
    job = service.submit(1, steps=3, seed=0)
    job.listen(lambda: 1 / 0)
    network.release()
    assert job.result(LIMIT_S).calls == 3
    assert service.drain(LIMIT_S)
    assert "a callback of a request raised" in caplog.text


def test_a_callback_that_exits_in_a_cancel_leaves_nothing_open(service, network):
    network.hold()
    job = service.submit(1, steps=3)

    def leave(_):
        raise SystemExit

    job.add_done_callback(leave)
    with pytest.raises(SystemExit):
        job.cancel()
    network.release()
    assert job.cancelled()
    assert service.drain(LIMIT_S)


def test_a_stream_may_be_collected_while_its_service_is_asked_for_stats(service, network):
    network.hold()
    job, tally = service.submit(1, steps=3), service._tally
    ended = threading.Event()

    def cancel_inside():  # as a collection does that comes just then
        with tally._lock:
            job.cancel()
        ended.set()

    threading.Thread(target=cancel_inside, daemon=True).start()
    network.release()
    assert ended.wait(LIMIT_S)


@pytest.mark.parametrize("ends", ["completed", "failed", "cancelled"])
def test_a_request_that_has_ended_is_held_by_nobody(service, network, ends):
    gc.disable()  # nor by a cycle of its own
    try:
        network.hold()
        job = service.submit(1, steps=50 if ends == "cancelled" else 3, deadline_s=1e6)
        network.wait_for_call()
        if ends == "failed":
            network.fail = RuntimeError("no")
        if ends == "cancelled":
            job.cancel()
        network.release()
        held = weakref.ref(job)
        if ends == "completed":
            job.result(LIMIT_S)
        elif ends == "failed":
            with pytest.raises(BackendError):
                job.result(LIMIT_S)
        assert service.drain(LIMIT_S)
        del job
        until(lambda: held() is None, "the request's end")
    finally:
        gc.enable()


def test_a_device_that_works_ahead_has_its_steps_timed_not_their_calls(monkeypatch):
    pytest.importorskip("torch")
    from suites.torch_host import TorchHost

    monkeypatch.setattr(TorchHost, "wait", lambda _: time.sleep(0.01))
    with Service(device_engine_of(elementwise), warm_up=False) as service:
        service.submit(1, steps=20, seed=0).result(LIMIT_S)
        assert service.stats().step_s.p50 >= 0.01
