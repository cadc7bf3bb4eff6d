"""Streams, DELETE, and clients that leave: whatever they do, their slots are free again."""

import asyncio
import base64
import io
import socket

import httpx
import numpy as np
import pytest
from asking import connected, events, in_thread, send, streamed
from PIL import Image
from serving import assert_same_bits, engine_of, settle
from stepwise import SECONDS, Stepwise, until

from revstep import Condition, DenoiserSpec, Engine, Service
from revstep.schedules import VPSchedule

PICTURES = DenoiserSpec(
    shape=(1, 4, 4),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="shift", null=0.25),),
    value_range=(-1.0, 1.0),
    batch=(1, 16),
)


def test_a_stream_tells_its_start_its_progress_and_its_result(client):
    found = streamed(client, n=2, seed=7, steps=6)
    names = [name for name, _ in found]
    assert (names[0], names[-1]) == ("started", "result")
    assert set(names[1:-1]) <= {"progress"}
    assert found[0][1]["seeds"] == [7, 8]
    result = found[-1][1]
    assert result["id"] == found[0][1]["id"]
    assert result["png"] is None
    data = np.frombuffer(base64.b64decode(result["data"]), "<f4").reshape(result["shape"])
    assert_same_bits(data.astype(np.float32), engine_of().sample(2, seed=7, steps=6).x)
    done = [one["done"] for name, one in found if name == "progress"]
    assert done == sorted(done)
    assert all(one["total"] == 12 for name, one in found if name == "progress")


def test_a_stream_shows_the_sample_as_it_forms(serve):
    network = Stepwise(PICTURES)
    client = serve({"pictures": Service(Engine(network))})
    network.hold()
    body = {"seed": 3, "steps": 4, "stream": True, "previews": 2}
    with client.stream("POST", "/v1/samples", json=body) as reply:
        found = events(reply.iter_lines())
        assert next(found)[0] == "started"
        network.wait_for_call()
        shown = {}
        for step in (1, 2, 3):
            network.allow(1)
            name, progress = next(found)
            assert name == "progress"
            assert (progress["step"], progress["steps"], progress["first"]) == (step, 4, 0)
            shown[step] = progress["png"]
        network.release()
        name, result = list(found)[-1]
    assert name == "result"
    assert (shown[1], shown[3]) == (None, None)
    trace = engine_of(spec=PICTURES).sample(1, seed=3, steps=4, trace_x0=True).x0_trace
    for png, x in ((shown[2], trace[1].reshape(4, 4)), (result["png"], None)):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))).astype(int)
        if x is None:
            x = np.frombuffer(base64.b64decode(result["data"]), "<f4").reshape(4, 4)
        want = np.clip(np.rint((x.astype(float) + 1.0) * 127.5), 0, 255)
        assert np.abs(picture - want).max() <= 1


@pytest.mark.parametrize("stream", [False, True])
def test_delete_cancels_a_running_request(client, network, service, stream):
    network.hold()
    if stream:
        reply = in_thread(lambda: streamed(client, id="mine"))
    else:
        reply = in_thread(lambda: client.post("/v1/samples", json={"id": "mine"}))
    network.wait_for_call()
    assert client.delete("/v1/samples/mine").status_code == 204
    found = reply()
    if stream:
        assert found[-1] == ("error", found[-1][1])
        error = found[-1][1]["error"]
    else:
        assert found.status_code == 409
        error = found.json()["error"]
    assert error["type"] == "Cancelled"
    network.release()
    assert settle(service, 1).outcomes["cancelled"] == 1
    again = client.delete("/v1/samples/mine")
    assert again.status_code == 404
    assert "'mine'" in again.json()["error"]["message"]


def test_delete_cancels_a_request_by_the_id_that_a_stream_tells(client, network, service):
    network.hold()
    with client.stream("POST", "/v1/samples", json={"stream": True}) as reply:
        found = events(reply.iter_lines())
        name = next(found)[1]["id"]
        assert reply.headers["X-Revstep-Id"] == name
        assert client.delete(f"/v1/samples/{name}").status_code == 204
        assert list(found)[-1][0] == "error"
    network.release()
    settle(service, 1)


def test_an_id_is_taken_until_its_request_has_ended(client, network):
    network.hold()
    first = in_thread(lambda: client.post("/v1/samples", json={"id": "mine"}))
    network.wait_for_call()
    second = client.post("/v1/samples", json={"id": "mine"})
    assert second.status_code == 409
    assert second.json()["error"]["type"] == "Conflict"
    network.release()
    assert first().json()["id"] == "mine"
    assert client.post("/v1/samples", json={"id": "mine"}).status_code == 200


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("body", ["{}", '{"stream": true, "previews": 1}'])
@pytest.mark.parametrize("queued", [False, True])
def test_a_client_that_leaves_cancels_its_request(client, network, service, body, how, queued):
    network.hold()
    ahead = []
    if queued:  # behind a request that has all slots
        ahead.append(in_thread(lambda: client.post("/v1/samples", json={"n": 16, "steps": 3})))
        network.wait_for_call()
    connection = connected(client.base_url)
    send(connection, body)
    until(lambda: service.stats().queued + service.stats().running == 1 + queued, "the request")
    if "stream" in body:
        assert b"event: started" in read_until(connection, b"started")
    if how == "reset":  # no goodbye: the connection is cut
        option = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
    connection.close()
    until(lambda: service.stats().outcomes["cancelled"] == 1, "the cancellation")
    network.release()
    for reply in ahead:
        assert reply().status_code == 200
    assert settle(service, 1 + queued).outcomes["completed"] == queued


def read_until(connection, text):
    got = b""
    while text not in got:
        part = connection.recv(4096)
        assert part, got
        got += part
    return got


def test_a_client_that_leaves_before_its_body_is_whole_leaves_nothing(client, service):
    connection = connected(client.base_url)
    head = b"POST /v1/samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    connection.sendall(head + b"{")
    connection.close()
    assert client.post("/v1/samples", json={}).status_code == 200
    settle(service, 1)


def test_clients_killed_at_random_leave_no_slot_and_no_other_bits(client, network, service):
    network.slow_s = 0.0005
    rng = np.random.default_rng(11)
    url, leaves = str(client.base_url), rng.uniform(0.0, 0.05, 48)

    async def leaving(http, k):
        body = {"steps": 40, "n": 1 + k % 3, "stream": bool(k % 2), "previews": k % 2}
        task = asyncio.ensure_future(http.post("/v1/samples", json=body))
        await asyncio.wait({task}, timeout=leaves[k])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def staying(http, k):
        reply = await http.post("/v1/samples", json={"steps": 9, "seed": k, "output": "npy"})
        return np.load(io.BytesIO(reply.content))

    async def run():
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=url, timeout=SECONDS, limits=limits) as http:
            found = [staying(http, k) for k in range(16)]
            return await asyncio.gather(*found, *(leaving(http, k) for k in range(48)))

    found = asyncio.run(run())[:16]
    engine = engine_of()
    for k, x in enumerate(found):
        assert_same_bits(x, engine.sample(1, steps=9, seed=k).x)
    outcomes = settle(service).outcomes
    assert outcomes["completed"] >= 16
    assert outcomes["failed"] == outcomes["expired"] == outcomes["refused"] == 0


def test_a_slow_reader_of_a_stream_holds_no_slot(client, network, service):
    connection = connected(client.base_url)
    send(connection, '{"stream": true, "previews": 1, "n": 16, "steps": 500}')
    until(lambda: service.stats().outcomes["completed"] == 1, "the end of the request")
    settle(service, 1)
    assert b"event: result" in read_until(connection, b"event: result")
    connection.close()
