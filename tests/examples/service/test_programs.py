"""The programs around a service: each in the process that it is for."""

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from example_files import EXAMPLES, SECONDS, environment, imported, printed
from serving import settle
from stepwise import Stepwise, until

import revstep

pytest.importorskip("onnxruntime")
pil = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def engine(demo_bundle):
    return revstep.load(demo_bundle, threads=1)


def assert_picture(png, engine, **request):
    """The picture is what the engine alone gives, but for rounding to another shade."""
    want = np.asarray(engine.sample(1, **request).pil()[0], int)
    with pil.open(io.BytesIO(png)) as image:
        got = np.asarray(image, int)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1
    assert want.std() > 10  # it shows something


def labels(k):
    return {"class_labels": k}


def test_every_thread_gets_its_own_picture(demo_bundle, engine, tmp_path):
    said = printed("service/thread_pool.py", demo_bundle, tmp_path / "clothes")
    pictures = sorted((tmp_path / "clothes").iterdir())
    assert [path.name for path in pictures] == [f"{k}.png" for k in range(10)]
    for k in (0, 9):
        png = pictures[k].read_bytes()
        assert_picture(png, engine, seed=k, guidance=1.5, conditions=labels(k))
    steps = int(re.fullmatch(r"10 pictures in (\d+) steps of the service\n", said)[1])
    assert steps < 10 * 20  # they shared network calls


def test_asyncio_requests_end_apart_and_one_is_given_up(engine):
    program = imported("service/asyncio_requests.py")

    async def both(service):
        return await program.at_once(service), await program.watched(service)

    with revstep.Service(engine) as service:
        several, followed = asyncio.run(both(service))
        assert service.stats().steps < sum(10 + 2 * k for k in range(10)) + 20
        assert asyncio.run(program.given_up(service, after_s=0.05))
        stats = settle(service)
    for k, samples in enumerate(several):
        want = engine.sample(1, steps=10 + 2 * k, seed=k, conditions=labels(k)).x
        np.testing.assert_allclose(samples.x, want, rtol=0, atol=1e-4)
    want = engine.sample(4, steps=20, seed=0, conditions=labels(7)).x
    np.testing.assert_allclose(followed.x, want, rtol=0, atol=1e-4)
    assert (stats.outcomes["completed"], stats.outcomes["cancelled"]) == (11, 1)


def test_the_asyncio_program_runs(demo_bundle):
    said = printed("service/asyncio_requests.py", demo_bundle)
    assert "seeds [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" in said
    assert re.search(r"step \d+ of 20: contrast 0\.\d\d", said)  # a slow reader misses some
    assert "Samples(float32 (4, 1, 32, 32), ddim, 20 steps)" in said
    assert "given up: True" in said
    assert "'completed': 11, 'failed': 0, 'cancelled': 1" in said


@pytest.fixture
def own_app(monkeypatch, demo_bundle):
    """The FastAPI example behind uvicorn: its module, and a client."""
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn")
    from http_server import serving

    monkeypatch.setenv("BUNDLE", str(demo_bundle))
    module = imported("service/fastapi_app.py")
    with serving(module.app) as url, httpx.Client(base_url=url, timeout=SECONDS) as client:
        yield module.app, client


def test_an_app_of_ones_own_answers_many_at_once(own_app, engine):
    _, client = own_app
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda k: client.get(f"/clothes/{k}.png?seed={k}"), range(6)))
    for k, reply in enumerate(replies):
        assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png")
        assert_picture(reply.content, engine, seed=k, steps=20, conditions=labels(k))
    refused = client.get("/clothes/99.png")
    assert refused.status_code == 422
    assert "class_labels" in refused.json()["detail"]


def test_an_app_of_ones_own_refuses_what_its_queue_has_no_room_for(own_app, engine):
    app, client = own_app
    network = Stepwise(engine.spec, lambda x, t, conditions: 0.5 * x)
    real, app.state.service = app.state.service, None
    with (
        revstep.Service(revstep.Engine(network), slots=1, max_queue=1) as service,
        ThreadPoolExecutor(2) as pool,
    ):
        app.state.service = service
        network.hold()
        try:
            first = pool.submit(client.get, "/clothes/1.png?steps=2")
            until(lambda: service.stats().slots_in_use == 1)
            second = pool.submit(client.get, "/clothes/2.png?steps=2")
            until(lambda: service.stats().queued == 1)
            third = client.get("/clothes/3.png?steps=2")
        finally:
            network.release()
        assert third.status_code == 503
        assert int(third.headers["retry-after"]) >= 1
        assert [one.result(SECONDS).status_code for one in (first, second)] == [200, 200]
        app.state.service = real


class Gunicorn:
    """gunicorn with the example; ``url`` once it listens."""

    def __init__(self, bundle, home):
        command = [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "4"),
            *("--bind", "127.0.0.1:0", "--pythonpath", str(EXAMPLES / "service")),
            "gunicorn_app:app",
        ]
        self.process = subprocess.Popen(
            command,
            env=environment(BUNDLE=str(bundle), HOME=str(home)),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"Listening at: (http://\S+)", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(self.said))
        self.reader = ThreadPoolExecutor(1)
        self.rest = self.reader.submit(self.process.stderr.read)

    def end(self):
        """Its exit status, asked to go by SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.reader.shutdown()
            self.process.stderr.close()


@pytest.fixture
def gunicorn(demo_bundle, copy_of, tmp_path):
    pytest.importorskip("gunicorn")
    bundle = copy_of(demo_bundle)
    server = Gunicorn(bundle, tmp_path)
    server.bundle = bundle
    yield server
    server.end()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn forks")
def test_gunicorns_workers_sample_with_what_was_loaded_before_they_were_forked(gunicorn, engine):
    httpx = pytest.importorskip("httpx")
    gunicorn.bundle.rename(gunicorn.bundle.with_name("gone"))  # nobody can load it again
    seen = {}

    def ask(k):
        # a connection each, as either worker may accept it
        reply = httpx.get(f"{gunicorn.url}/?label={k}&seed={k}", timeout=SECONDS)
        assert reply.status_code == 200, reply.text
        seen.setdefault(int(reply.headers["x-worker"]), (k, reply.content))

    def both_answer():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        return len(seen) == 2

    until(both_answer, "an answer of both workers")
    assert gunicorn.process.pid not in seen
    killed = tuple(seen)
    for worker in killed:
        os.kill(worker, signal.SIGKILL)

    def a_new_one_answers():
        with contextlib.suppress(httpx.TransportError):
            ask(9)
        return len(seen) > 2

    until(a_new_one_answers, "an answer of a worker in a killed one's place")
    for k, png in seen.values():
        assert_picture(png, engine, seed=k, conditions=labels(k))
    refused = httpx.get(f"{gunicorn.url}/?label=99", timeout=SECONDS)
    assert refused.status_code == 422
    assert "class_labels" in refused.text
    assert gunicorn.end() == 0
