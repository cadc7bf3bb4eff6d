"""The client, against real servers on loopback."""

import contextlib
import http.server
import threading

import pytest

pytest.importorskip("fastapi")

from http_server import serving
from stepwise import SECONDS, Stepwise, until

from revstep import Engine, Service
from revstep.bench.load.client import Client
from revstep.bench.load.loop import open_loop
from revstep.bench.load.served import await_idle, served_model
from revstep.errors import ArgumentError
from revstep.serve.http.app import create_app

BODY = b'{"steps": 2, "output": "npy"}'


@contextlib.contextmanager
def service(max_queue=256, **options):
    """A network that waits when it is told to, its service over HTTP, and a client of it."""
    network = Stepwise()
    with (
        Service(Engine(network), slots=2, max_queue=max_queue) as one,
        serving(create_app({"toy": one})) as url,
        Client(url, **options) as client,
    ):
        try:
            yield network, client
        finally:
            network.release()


def test_what_stands_still_is_seen_by_all_that_were_due_meanwhile():
    with service() as (network, client):
        network.hold()
        sent = []

        def send(ask, reply):
            client.send(BODY, reply)
            sent.append(reply)
            if ask == 19:  # the last one; nothing was answered yet
                assert all(each.outcome is None for each in sent)
                network.release()

        due = [0.01 * k for k in range(20)]
        replies = open_loop(send, range(20), due)
        assert replies.counts["answered"] == 20
        for reply in replies.ended:
            assert reply.latency_s >= due[-1] - reply.due_s


def test_refusals_are_counted_and_stay():
    with service(max_queue=2) as (network, client):
        network.hold()
        done = []

        def send(ask, reply):
            client.send(BODY, reply)
            done.append(reply)
            if ask == 9:
                until(lambda: sum(r.outcome == "refused" for r in done) >= 6, "refusals")
                network.release()

        replies = open_loop(send, range(10), [0.0] * 10, patience_s=SECONDS)
        assert replies.counts["refused"] + replies.counts["answered"] == 10
        assert replies.counts["refused"] >= 6  # two step, two wait
        assert replies.reasons == {"503 QueueFullError": replies.counts["refused"]}


def test_one_that_finds_no_free_connection_is_not_sent():
    with service(connections=3) as (network, client):
        network.hold()

        def send(ask, reply):
            client.send(BODY, reply)
            if ask == 4:
                network.release()

        replies = open_loop(send, range(5), [0.0] * 5, patience_s=SECONDS)
        assert replies.counts["unsent"] == 2
        assert replies.counts["answered"] == 3
        assert replies.reasons == {"all 3 connections were in use": 2}
        assert len(replies.late) == 3


def test_a_slow_answer_is_a_timeout_and_a_wrong_body_a_failure():
    with service(timeout_s=0.2) as (network, client):
        network.hold()
        replies = open_loop(client.send, [BODY, b'{"steps": 0}'], [0.0, 0.0], patience_s=SECONDS)
        assert [reply.outcome for reply in replies.ended] == ["timeout", "failed"]
        assert replies.reasons == {"no answer in 0.2 s": 1, "422 ValidationError": 1}


def test_breaking_off_ends_what_is_awaited_and_the_service_is_idle_again():
    with service() as (network, client):
        network.hold()

        def send(ask, reply):
            client.send(BODY, reply)
            if ask == 3:
                network.wait_for_call()
                raise KeyboardInterrupt

        replies = open_loop(send, range(4), [0.0] * 4, patience_s=SECONDS, grace_s=0.0)
        assert replies.stopped == "interrupted"
        assert not await_idle(client, "toy", limit_s=0.0)
        client.abort()
        network.release()
        assert await_idle(client, "toy")


def test_connections_are_kept_and_old_ones_made_anew(monkeypatch):
    class Count(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        made = 0

        def setup(self):
            super().setup()
            Count.made += 1

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments):
            pass

    with plain_server(Count) as url, Client(url) as client:
        for _ in range(5):
            assert client.ask("POST", "/v1/samples", BODY) == (200, b"ok")
        assert Count.made == 1
        monkeypatch.setattr("revstep.bench.load.client.IDLE_S", 0.0)
        client.ask("POST", "/v1/samples", BODY)
        assert Count.made == 2


@contextlib.contextmanager
def plain_server(handler):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):  # knows no POST, and no model
    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "answered"), (429, "refused"), (503, "refused"), (504, "timeout"), (500, "failed")],
)
def test_what_a_status_counts_as(status, outcome):
    class Says(Quiet):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(status)

    with plain_server(Says) as url, Client(url) as client:
        (reply,) = open_loop(client.send, [BODY], [0.0], patience_s=SECONDS).ended
        assert reply.outcome == outcome
        assert reply.why == ("" if status == 200 else f"{status}")


def test_a_connection_that_breaks_is_a_failure_and_so_is_none():
    class HangsUp(Quiet):
        def do_POST(self):
            self.close_connection = True

    with plain_server(HangsUp) as url, Client(url) as client:
        (reply,) = open_loop(client.send, [BODY], [0.0], patience_s=SECONDS).ended
        assert (reply.outcome, reply.why) == ("failed", "RemoteDisconnected")
    with Client(url) as client:
        (reply,) = open_loop(client.send, [BODY], [0.0], patience_s=SECONDS).ended
        assert (reply.outcome, reply.why) == ("failed", "ConnectionRefusedError")


def test_what_is_no_revstep_service_is_named():
    none = pytest.raises(ArgumentError, match="is no revstep service: /v1/models gives 404")
    with plain_server(Quiet) as url, Client(url) as client, none:
        served_model(client, None)
    with Client(url) as client, pytest.raises(ArgumentError, match="nothing listens at"):
        served_model(client, None)


def test_a_model_is_found_by_its_name():
    with service() as (_, client):
        assert served_model(client, None)["name"] == "toy"
        with pytest.raises(ArgumentError, match="toy"):
            served_model(client, "boy")


def test_a_token_that_is_asked_for_is_named_and_sent():
    token = "a-token-of-this-test-alone"
    with Service(Engine(Stepwise())) as one, serving(create_app({"toy": one}, token=token)) as url:
        with Client(url) as client, pytest.raises(ArgumentError, match="--token-file"):
            served_model(client, None)
        with Client(url, token=token) as client:
            assert served_model(client, None)["name"] == "toy"
            assert client.ask("POST", "/v1/samples", BODY)[0] == 200


@pytest.mark.parametrize(
    "wrong", ["127.0.0.1:8000", "ftp://host", "http://", "http://h:x", "http://h?a=1"]
)
def test_what_is_no_url_is_refused(wrong):
    with pytest.raises(ArgumentError, match="URL"):
        Client(wrong)
