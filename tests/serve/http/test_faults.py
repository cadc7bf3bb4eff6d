"""Faults: a full queue, deadlines, networks that raise, services that end under their requests."""

import io

import numpy as np
import pytest
from asking import events, in_thread, streamed
from serving import assert_same_bits, close_beside, engine_of, settle
from stepwise import SECONDS, Stepwise, until

from revstep import Engine, Service
from revstep.serve.http.app import create_app
from revstep.serve.http.limits import Limits


def post(client, **body):
    return client.post("/v1/samples", json=body)


def test_a_full_queue_is_refused_with_when_to_come_again(serve, network):
    service = Service(Engine(network), slots=2, max_queue=1)
    client = serve({"toy": service})
    network.hold()
    running = in_thread(lambda: post(client, n=2))
    network.wait_for_call()
    queued = in_thread(lambda: post(client))
    until(lambda: service.stats().queued == 1, "the queued request")
    for stream in (False, True):
        reply = post(client, stream=stream)
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.json()["error"]["type"] == "QueueFullError"
    network.release()
    assert running().status_code == queued().status_code == 200
    assert settle(service, 4).outcomes["refused"] == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_that_passes_is_answered(client, network, service, stream):
    network.slow_s = 0.02
    if stream:
        (*_, (name, data)) = streamed(client, steps=200, deadline_s=0.1)
        assert name == "error"
    else:
        reply = post(client, steps=200, deadline_s=0.1)
        assert reply.status_code == 504
        data = reply.json()
    assert data["error"]["type"] == "DeadlineError"
    assert settle(service, 1).outcomes["expired"] == 1


def test_a_server_may_have_a_deadline_for_who_names_none(serve, service, network):
    client = serve({"toy": service}, limits=Limits(deadline_s=0.1))
    network.slow_s = 0.02
    assert post(client, steps=200).status_code == 504
    assert post(client, steps=10, deadline_s=60).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("calls", [0, 3])
def test_a_network_that_raises_fails_the_requests_in_the_call_alone(
    client, network, service, stream, calls
):
    network.hold()
    body = {"steps": 9}
    lost = in_thread((lambda: streamed(client, **body)) if stream else lambda: post(client, **body))
    network.wait_for_call()
    if calls:
        network.allow(calls)
    network.fail = RuntimeError("the device is gone")
    network.release()
    found = lost()
    if stream:
        name, data = found[-1]
        assert name == "error"
    else:
        assert found.status_code == 500
        data = found.json()
    assert data["error"]["type"] == "BackendError"
    assert "the device is gone" in data["error"]["message"]
    later = post(client, n=2, seed=5, steps=4, output="npy")  # the service goes on
    want = engine_of().sample(2, seed=5, steps=4).x
    assert_same_bits(np.load(io.BytesIO(later.content)), want)
    assert settle(service, 2).outcomes["failed"] == 1


def test_a_request_whose_rows_turn_nan_fails_alone(client, network, service):
    network.hold()
    bad = in_thread(lambda: post(client, conditions={"shift": 13}))
    network.wait_for_call()
    good = in_thread(lambda: post(client, seed=5, output="npy"))
    until(lambda: service.stats().queued == 1, "the second request")
    network.release()
    reply = bad()
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "NonFiniteError"
    want = engine_of().sample(1, seed=5).x
    assert_same_bits(np.load(io.BytesIO(good().content)), want)


def test_what_nobody_foresaw_is_answered_and_the_connection_stays(client, service, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(service, "submit", broken)
        reply = post(client)
    assert reply.status_code == 500
    error = reply.json()["error"]
    assert error["type"] == "InternalError"
    assert "a bug" not in error["message"]
    assert post(client).status_code == 200


def test_a_service_that_drains_refuses_and_finishes(client, network, service):
    network.hold()
    running = in_thread(lambda: post(client))
    network.wait_for_call()
    assert not service.drain(0)
    for path in ("/readyz", "/v1/samples"):
        reply = client.get(path) if path == "/readyz" else post(client)
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) >= 1
    assert client.get("/healthz").status_code == 200
    network.release()
    assert running().status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_service_that_is_closed_answers_those_it_has(client, network, service, stream):
    network.hold()
    running = in_thread((lambda: streamed(client)) if stream else lambda: post(client))
    network.wait_for_call()
    closing = close_beside(service)
    network.release()
    closing.join(SECONDS)
    found = running()
    if stream:
        assert found[-1][0] == "error"
        assert found[-1][1]["error"]["type"] == "ServiceClosedError"
    else:
        assert found.status_code == 503
        assert found.json()["error"]["type"] == "ServiceClosedError"
    assert post(client).status_code == 503


def test_hundreds_at_once_all_have_an_answer(serve, network):
    """Many more than the threads that take requests, slots and queue hold."""
    import asyncio

    import httpx

    service = Service(Engine(network), slots=8, max_queue=32)
    client = serve({"toy": service})
    network.slow_s = 0.0005
    kinds = (
        {"steps": 5, "seed": 1},
        {"steps": 30, "n": 3, "stream": True},
        {"steps": 10, "deadline_s": 0.02},
        {"steps": 0},
        {"steps": 12, "guidance": 2.0, "conditions": {"shift": 0.5}, "output": "npy"},
        {"steps": 4, "conditions": {"shift": 13}},
    )

    async def run():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=client.base_url, timeout=60.0, limits=limits) as http:
            asked = [http.post("/v1/samples", json=kinds[k % 6]) for k in range(240)]
            return await asyncio.gather(*asked)

    found = asyncio.run(run())
    allowed = ((200, 503), (200, 503), (200, 503, 504), (422,), (200, 503), (500, 503))
    data = set()
    for k, reply in enumerate(found):
        assert reply.status_code in allowed[k % 6], (kinds[k % 6], reply.text)
        if reply.status_code == 503:
            assert "Retry-After" in reply.headers
        elif k % 6 == 0:
            data.add(reply.json()["data"])
        elif k % 6 == 1:
            assert list(events([*reply.text.splitlines(), ""]))[-1][0] == "result"
    assert len(data) == 1
    settle(service, 200)


def test_models_that_load_are_refused_until_they_are_there(serve, network, service):
    import threading

    loading = threading.Event()

    def load():
        assert loading.wait(SECONDS)
        return {"toy": service}

    client = serve(load)
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/models").json() == {"models": []}
    for reply in (client.get("/readyz"), post(client)):
        assert reply.status_code == 503
        assert "loading" in reply.json()["error"]["message"]
        assert int(reply.headers["Retry-After"]) >= 1
    loading.set()
    until(lambda: client.get("/readyz").status_code == 200, "readiness")
    assert post(client).status_code == 200


def test_models_that_cannot_be_loaded_are_told_of(serve, caplog):
    def load():
        raise OSError("no such disk")

    client = serve(load)
    until(lambda: "no such disk" in client.get("/readyz").text, "the failure")
    reply = post(client)
    assert reply.status_code == 503
    assert "no such disk" in reply.json()["error"]["message"]
    assert client.get("/healthz").status_code == 200


def test_the_app_closes_its_services(network):
    from http_server import serving

    service = Service(Engine(Stepwise()))
    with serving(create_app({"toy": service})):
        assert not service.closed
    assert service.closed
