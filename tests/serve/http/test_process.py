"""``revstep serve`` as a process: signals under load, and a bundle replaced under it."""

import io
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from asking import in_thread
from serving import assert_same_bits
from stepwise import SECONDS, until

import revstep

TOKEN = "a-token-of-this-test-alone"
LIMIT_S = 60.0  # that anything may take on a busy machine


class Server:
    """A running ``revstep serve``.

    Attributes:
        process: It.
        url: Where it listens.
        client: A client of it, which connects anew each time.
    """

    def __init__(self, *arguments, cwd, ready=True):
        command = [sys.executable, "-m", "revstep", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--threads", "1"], cwd=cwd, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.names, _, self.url = line.removeprefix("serving ").strip().rpartition(" on ")
        self.client = httpx.Client(
            base_url=self.url, timeout=LIMIT_S, headers={"Connection": "close"}
        )
        if ready:
            until(lambda: self.client.get("/readyz").status_code == 200, "readiness")

    def post(self, **body):
        return self.client.post("/v1/samples", json=body)

    def array(self, **body):
        reply = self.post(output="npy", **body)
        assert reply.status_code == 200, reply.text
        return np.load(io.BytesIO(reply.content))

    def stats(self):
        (found,) = self.client.get("/v1/stats").json().values()
        return found

    def end(self, sig=signal.SIGTERM):
        """Signals it; gives its exit status, once it has ended, and what it said."""
        self.process.send_signal(sig)
        said = self.process.communicate(timeout=LIMIT_S)[1]
        return self.process.returncode, said


@pytest.fixture
def start(tmp_path):
    """A function that starts a server, which ends with the test."""
    servers = []

    def begin(*arguments, **options):
        servers.append(Server(*arguments, cwd=tmp_path, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.client.close()
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate(timeout=LIMIT_S)


def test_sigterm_under_load_answers_all_that_were_taken_and_refuses_the_rest(start, demo_bundle):
    server = start(demo_bundle, "--max-queue", "64")
    # half of the slots, for longer than the others take to be refused: the server stays till then
    slow = [in_thread(lambda: server.post(n=4, steps=120, output="npy")) for _ in range(2)]
    until(lambda: server.stats()["running"] == 2, "the load")
    found, lock = [], threading.Lock()
    signalled = threading.Event()

    def load(k):
        """Asks, until it is told that the server goes."""
        while True:
            begun_after = signalled.is_set()
            reply = server.post(steps=3 + k, seed=k, output="npy", stream=False)
            with lock:
                found.append((begun_after, reply.status_code, reply.headers))
            if reply.status_code != 200:
                return

    clients = [in_thread(lambda k=k: load(k)) for k in range(6)]
    until(lambda: len(found) >= 3, "some answers")
    signalled.set()
    server.process.send_signal(signal.SIGTERM)
    until(lambda: any(status == 503 for _, status, _ in found), "the refusal")
    assert server.client.get("/healthz").status_code == 200
    assert server.client.get("/readyz").status_code == 503
    assert [client() for client in clients] == [None] * 6
    assert [reply().status_code for reply in slow] == [200, 200]
    for _, status, headers in found:
        assert status in (200, 503)
        assert status == 200 or int(headers["Retry-After"]) >= 1
    assert sum(status == 503 for _, status, _ in found) == 6  # one each: the last
    assert sum(status == 200 for _, status, _ in found) >= 3
    _, said = server.process.communicate(timeout=LIMIT_S)
    assert server.process.returncode == -signal.SIGTERM
    assert "Traceback" not in said


@pytest.mark.parametrize("stream", [False, True])
def test_after_its_grace_what_is_left_is_refused(start, demo_bundle, stream):
    server = start(demo_bundle, "--grace", "0")
    left = in_thread(lambda: server.post(n=32, steps=900, stream=stream))
    until(lambda: server.stats()["running"], "the load")
    status, said = server.end()
    assert status == -signal.SIGTERM
    assert "Traceback" not in said
    reply = left()
    if stream:
        assert reply.status_code == 200
        assert "event: error" in reply.text
        assert "ServiceClosedError" in reply.text
    else:
        assert reply.status_code == 503
        assert reply.json()["error"]["type"] == "ServiceClosedError"


def test_a_second_signal_waits_for_nothing(start, demo_bundle):
    server = start(demo_bundle)
    left = in_thread(lambda: server.post(n=32, steps=900))
    until(lambda: server.stats()["running"], "the load")
    server.process.send_signal(signal.SIGINT)
    until(lambda: server.client.get("/readyz").status_code == 503, "the drain")
    begun = time.monotonic()
    server.end(signal.SIGINT)
    assert time.monotonic() - begun < SECONDS
    assert left().status_code == 503


def test_a_server_that_is_still_warming_up_ends_too(start, tabular_bundle):
    server = start(tabular_bundle, ready=False)
    status, said = server.end()
    assert status == -signal.SIGTERM
    assert "Traceback" not in said


def test_a_bundle_replaced_under_a_server_changes_nothing_for_it(
    start, policy_bundle, tabular_bundle, copy_of
):
    bundle = copy_of(policy_bundle, "mine.revstep")
    seen = (np.arange(4) / 4).tolist()
    (condition,) = revstep.load(bundle).spec.conditions
    seen = np.linspace(0.0, 1.0, int(np.prod(condition.shape))).reshape(condition.shape).tolist()
    body = {"n": 3, "seed": 5, "steps": 8, "conditions": {condition.name: seen}}
    server = start(bundle, "--deterministic")
    assert server.names == "mine"
    before, models = server.array(**body), server.client.get("/v1/models").json()
    stop, found = threading.Event(), []

    def load():
        while not stop.is_set():
            found.append(server.array(**body))

    loads = [in_thread(load) for _ in range(3)]
    until(lambda: len(found) > 5, "some answers")
    new = shutil.copytree(tabular_bundle, bundle.with_name("new.revstep"), symlinks=True)
    bundle.rename(bundle.with_name("old.revstep"))
    new.rename(bundle)
    shutil.rmtree(bundle.with_name("old.revstep"))
    several = len(found) + 10
    until(lambda: len(found) > several, "some answers more")
    stop.set()
    assert [one() for one in loads] == [None] * 3
    for x in found:
        assert_same_bits(x, before)
    assert server.client.get("/v1/models").json() == models
    server.end()
    again = start(bundle)  # who starts anew gets the new one
    assert again.client.get("/v1/models").json()["models"][0]["shape"] == [6]


def test_its_samples_are_those_of_the_engine_and_of_two_bundles(start, demo_bundle, tabular_bundle):
    server = start(demo_bundle, tabular_bundle, "--deterministic", "--max-samples", "9")
    assert server.names == "demo, tabular"
    models = server.client.get("/v1/models").json()["models"]
    assert [one["limits"]["samples"] for one in models] == [9, 9]
    got = server.array(
        model="demo", n=3, seed=2, steps=6, guidance=2.0, conditions={"class_labels": [1, 2, 3]}
    )
    engine = revstep.load(demo_bundle, threads=1, reproducible=True)
    want = engine.sample(3, seed=2, steps=6, guidance=2.0, conditions={"class_labels": [1, 2, 3]})
    assert_same_bits(got, want.x)
    got = server.array(model="tabular", n=9, seed=2)
    want = revstep.load(tabular_bundle, threads=1, reproducible=True).sample(9, seed=2)
    assert_same_bits(got, want.x)


def test_a_token_from_a_file_is_asked_for(tmp_path, tabular_bundle, start):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    server = start(tabular_bundle, "--token-file", file)
    assert server.post().status_code == 401
    server.client.headers["Authorization"] = f"Bearer {TOKEN}"
    assert server.post().status_code == 200


def test_it_listens_on_this_machine_alone_unless_told_otherwise(start, tabular_bundle):
    server = start(tabular_bundle)
    assert server.url.startswith("http://127.0.0.1:")
    foreign = server.client.get("/v1/models", headers={"Host": "evil.example"})
    assert foreign.status_code == 400
    _, said = server.end()
    assert "--token-file" not in said
    everywhere = start(tabular_bundle, "--host", "0.0.0.0")
    other = everywhere.client.get("/v1/models", headers={"Host": "any.example"})
    assert other.status_code == 200
    assert "--token-file" in everywhere.end()[1]


def test_a_server_that_cannot_start_says_why(tabular_bundle, tmp_path):
    from typer.testing import CliRunner

    from revstep.cli import app

    def serve(*arguments):
        done = CliRunner().invoke(app, ["serve", *map(str, arguments)])
        assert "serving" not in done.output
        return done.exit_code, done.output

    with socket.create_server(("127.0.0.1", 0)) as other:
        status, said = serve(tabular_bundle, "--port", other.getsockname()[1])
        assert status == 1
        assert "in use" in said
        # before anything is loaded
        status, said = serve(tmp_path / "none.revstep", "--port", other.getsockname()[1])
    assert status == 1
    assert "in use" in said
    status, said = serve(tmp_path / "none.revstep", "--port", 0)
    assert status == 2
    assert "none.revstep" in said
    status, said = serve(tabular_bundle, tabular_bundle, "--port", 0)
    assert status == 2
    assert "'tabular'" in said
    (tmp_path / "token").write_text("short\n")
    status, said = serve(tabular_bundle, "--port", 0, "--token-file", tmp_path / "token")
    assert status == 2
    assert "16 ASCII characters" in said
