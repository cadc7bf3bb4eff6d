"""On a real cluster: engines in tasks, bulk jobs by Ray Data, replicas by Ray Serve."""

import base64
import dataclasses
import json
import os
import pickle
import shutil
import socket
import threading

import numpy as np
import pytest

pytest.importorskip("ray")
httpx = pytest.importorskip("httpx")

from asking import connected, send  # noqa: E402
from stepwise import until  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import revstep  # noqa: E402
from revstep.cli import app  # noqa: E402
from revstep.errors import ArgumentError, BundleError  # noqa: E402
from revstep.serve.bulk.generate import generate  # noqa: E402
from revstep.serve.bulk.plan import Plan  # noqa: E402
from revstep.serve.ray.bulk import ShardWriter, draw_with_ray  # noqa: E402
from revstep.serve.ray.cluster import connect, count_workers  # noqa: E402
from revstep.serve.ray.deployment import Settings, build_app, replica_app  # noqa: E402

slow = pytest.mark.slow
# Ray opens files and sockets that it leaves to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # pydantic's, of ray.serve's models
]


@slow
def test_an_engine_crosses_to_a_task_by_its_bundles_path(cluster, tabular_bundle):
    engine = revstep.load(tabular_bundle, threads=1, reproducible=True)

    @cluster.remote
    def draw(engine, seed):
        return engine.sample(3, steps=4, seed=seed).x

    got = cluster.get([draw.remote(engine, seed) for seed in (1, 2)])
    for seed, x in zip((1, 2), got, strict=True):
        np.testing.assert_array_equal(x, engine.sample(3, steps=4, seed=seed).x)


@slow
def test_what_cannot_cross_says_so(cluster, tabular_bundle):
    service = revstep.Service(revstep.load(tabular_bundle, threads=1))
    with service, pytest.raises(TypeError, match="send its engine"):
        cluster.put(service)


@slow
def test_a_job_on_the_cluster_has_one_processs_bits_and_goes_on(cluster, tabular_bundle, tmp_path):
    connect(None)  # has it already
    engine = revstep.load(tabular_bundle, threads=1, reproducible=True)
    plan = Plan(n=95, steps=5, shard_size=10)
    draw = draw_with_ray(engine, tmp_path / "there", workers=2, cpus=1)
    told = []
    outcome = generate(
        engine, tabular_bundle, plan, tmp_path / "there", draw=draw, draw_new_seed=True,
        progress=lambda done, total: told.append(done),
    )  # fmt: skip
    plan = dataclasses.replace(plan, seed=outcome.seed)
    generate(engine, tabular_bundle, plan, tmp_path / "here")
    assert (outcome.files, outcome.written) == (10, 10)
    assert told == sorted(told)
    assert told[-1] == 95
    names = sorted(p.name for p in (tmp_path / "here").glob("part-*"))
    for name in names:
        here, there = (tmp_path / folder / name for folder in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()
    (tmp_path / "there" / names[4]).unlink()
    again = generate(engine, tabular_bundle, plan, tmp_path / "there", draw=draw)
    assert (again.written, again.samples) == (1, 10)


@slow
def test_the_command_draws_on_the_cluster(cluster, tabular_bundle, tmp_path):
    folder = tmp_path / "drawn"
    command = ["generate", str(tabular_bundle), "-n", "30", "--steps", "4", "--threads", "1"]
    command += ["--shard-size", "8", "--format", "npy", "-o", str(folder), "--ray", "--json"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["files"], found["written"]) == (4, 4)
    engine = revstep.load(tabular_bundle, threads=1, reproducible=True)
    want = engine.sample(30, steps=4, seed=found["seed"]).numpy()
    got = np.concatenate([np.load(file) for file in sorted(folder.glob("part-*"))])
    np.testing.assert_array_equal(got, want)
    ran = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "x"), "--threads", "3"])
    assert ran.exit_code == 2
    assert "a worker takes 3 CPU" in ran.stderr


@slow
def test_a_workers_error_is_raised_as_it_was(cluster, tabular_bundle, copy_of, tmp_path):
    connect(None)
    bundle = copy_of(tabular_bundle)
    engine = revstep.load(bundle, threads=1, reproducible=True)
    on_ray = draw_with_ray(engine, tmp_path / "job", workers=2, cpus=1)

    def draw(plan, shards):
        shutil.rmtree(bundle)  # as on a node that doesn't see it
        return on_ray(plan, shards)

    with pytest.raises(BundleError, match=str(bundle)):
        generate(engine, bundle, Plan(n=20, shard_size=5), tmp_path / "job", draw=draw)
    assert not list((tmp_path / "job").glob("part-*"))


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (1,)


@slow
def test_a_shard_that_kills_its_workers_ends_the_job(cluster, tabular_bundle, tmp_path):
    connect(None)
    engine = revstep.load(tabular_bundle, threads=1, reproducible=True)
    draw = draw_with_ray(Deadly(), tmp_path, workers=1, cpus=1)
    with pytest.raises(MemoryError, match="3 workers died"):
        generate(engine, tabular_bundle, Plan(n=5), tmp_path, draw=draw)


def test_a_worker_of_other_bits_draws_nothing(tabular_bundle, tmp_path):
    engine = revstep.load(tabular_bundle, threads=1, reproducible=True)
    plan = Plan(n=20, seed=1, steps=3, shard_size=10)
    generate(engine, tabular_bundle, plan, tmp_path)
    for file in tmp_path.glob("part-*"):
        file.unlink()
    batch = {"shard": np.array([1])}
    elsewhere = revstep.load(tabular_bundle, threads=2, reproducible=True)
    result = ShardWriter(pickle.dumps(elsewhere), plan, str(tmp_path))(batch)
    with pytest.raises(ArgumentError, match=r"runtime\.threads \(1 there, 2 here\)"):
        raise pickle.loads(result["error"][0])
    unseen = ShardWriter(pickle.dumps(engine), plan, str(tmp_path / "unseen"))(batch)
    with pytest.raises(FileNotFoundError, match="unseen"):
        raise pickle.loads(unseen["error"][0])
    assert not list(tmp_path.glob("part-*"))
    tries = tmp_path / ".part-00001.parquet.tries.tmp"
    tries.write_bytes(b"...")  # as workers leave it that were killed
    result = ShardWriter(pickle.dumps(engine), plan, str(tmp_path))(batch)
    with pytest.raises(MemoryError, match="3 workers died"):
        raise pickle.loads(result["error"][0])
    tries.write_bytes(b"..")
    result = ShardWriter(pickle.dumps(engine), plan, str(tmp_path))(batch)
    assert not result["error"][0]
    assert not tries.exists()
    assert [file.name for file in tmp_path.glob("part-*")] == ["part-00001.parquet"]


@pytest.fixture(scope="module")
def deployed(cluster, tabular_bundle, image_bundle):
    """Two bundles in one application; its URL."""
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    bundles = {"rows": str(tabular_bundle), "pictures": str(image_bundle)}
    settings = Settings(
        bundles=bundles, max_queue=2, slots=2, deterministic=True, cpus=0.5,
        max_replicas=2, target_requests=2, upscale_delay_s=1,
    )  # fmt: skip
    serve.run(build_app(settings), route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def values(reply):
    found = reply.json()
    return np.frombuffer(base64.b64decode(found["data"]), "<f4").reshape(found["shape"])


@slow
def test_a_replica_serves_several_bundles(deployed, tabular_bundle):
    models = httpx.get(f"{deployed}/v1/models", timeout=60).json()["models"]
    assert [model["name"] for model in models] == ["rows", "pictures"]
    body = {"model": "rows", "n": 3, "steps": 6, "seed": 11}
    reply = httpx.post(f"{deployed}/v1/samples", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    with revstep.Service(
        revstep.load(tabular_bundle, threads=1), slots=2, deterministic=True
    ) as here:
        want = here.submit(3, steps=6, seed=11).result(60).x
    np.testing.assert_array_equal(values(reply), want)
    refused = httpx.post(f"{deployed}/v1/samples", json={"steps": 3}, timeout=60)
    assert refused.status_code == 422
    assert refused.json()["error"]["argument"] == "model"


@slow
def test_events_come_through_the_proxy_as_they_happen(deployed):
    body = {"model": "rows", "steps": 40, "stream": True}
    with httpx.stream("POST", f"{deployed}/v1/samples", json=body, timeout=60) as reply:
        lines = list(reply.iter_lines())
    names = [x.removeprefix("event: ") for x in lines if x.startswith("event: ")]
    assert names[0] == "started"
    assert names[-1] == "result"
    assert set(names[1:-1]) <= {"progress"}


@slow
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slots_behind_the_proxy_too(deployed, stream):
    def counts():
        return httpx.get(f"{deployed}/v1/stats", timeout=60).json()["pictures"]

    before = counts()["outcomes"]["cancelled"]
    body = {"model": "pictures", "n": 64, "steps": 1000, "stream": stream}
    with connected(deployed) as connection:
        send(connection, json.dumps(body))
        until(lambda: counts()["running"], "it runs")
    until(lambda: counts()["outcomes"]["cancelled"] == before + 1, "it is cancelled")
    until(lambda: counts()["slots_in_use"] == 0, "its slots are free")


@slow
def test_a_full_replica_answers_503_and_says_when_to_come_back_and_another_one_starts(deployed):
    from ray import serve

    statuses, waits, enough = [], [], threading.Event()

    def ask():
        while not enough.is_set():
            body = {"model": "pictures", "n": 64, "steps": 1000, "deadline_s": 3}
            reply = httpx.post(f"{deployed}/v1/samples", json=body, timeout=120)
            statuses.append(reply.status_code)
            if reply.status_code == 503:
                assert reply.json()["error"]["type"] == "QueueFullError"
                waits.append(int(reply.headers["retry-after"]))
                enough.wait(0.2)

    def replicas():
        (application,) = serve.status().applications.values()
        (deployment,) = application.deployments.values()
        return deployment.replica_states.get("RUNNING", 0)

    assert replicas() == 1
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: replicas() == 2, "a second replica", seconds=90)
    finally:
        enough.set()
        for thread in threads:
            thread.join(120)
    assert set(statuses) <= {200, 503, 504}
    assert 503 in statuses
    assert all(1 <= wait <= 60 for wait in waits)


def test_a_replica_asks_for_the_token_in_the_file_and_keeps_to_the_limits(tabular_bundle, tmp_path):
    testclient = pytest.importorskip("starlette.testclient")
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    settings = Settings(bundles=str(tabular_bundle), token_file=str(file), max_body_bytes=2048)
    app = replica_app(settings.named_bundles(), settings)()
    right = {"Authorization": "Bearer 0123456789abcdef"}
    with testclient.TestClient(app) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers=right).status_code == 200
        body = {"steps": 3, "id": "x" * 2048}
        assert client.post("/v1/samples", json=body, headers=right).status_code == 413


def test_settings_are_checked_before_anything_starts(tmp_path):
    for bundles, match in (("", "at least one"), ("a/x.revstep, b/x.revstep", "one name")):
        with pytest.raises(ArgumentError, match=match):
            build_app(Settings(bundles=bundles))
    with pytest.raises(ArgumentError, match="max_replicas=1 is less than"):
        build_app(Settings(bundles="x", min_replicas=2))
    short = tmp_path / "token"
    short.write_text("short")
    with pytest.raises(ValueError, match="at least 16"):
        build_app(Settings(bundles="x", token_file=str(short)))
    with pytest.raises(ArgumentError, match="not both"):
        build_app(Settings(bundles="x", token="t" * 16, token_file=str(short)))
    with pytest.raises(ValueError, match="at least 16"):
        Settings(bundles="x", token="")
    with pytest.raises(ValueError, match="max_replica"):
        build_app({"bundles": "x", "max_replica": "2"})
    assert build_app({"bundles": "x", "max_replicas": "2"})  # as serve run gives them
    assert Settings(bundles="a.revstep,/b/c").named_bundles().keys() == {"a", "c"}


def test_workers_are_counted_node_by_node():
    nodes = [{"CPU": 6.0, "GPU": 1.0}, {"CPU": 3.0}, {"memory": 1.0}]
    assert count_workers(nodes, 1.0, 0.0) == 9
    assert count_workers(nodes, 4.0, 0.0) == 1
    assert count_workers(nodes, 0.5, 1.0) == 1
    with pytest.raises(ArgumentError, match=r"takes 8 CPU, and no node .* has 6 CPU"):
        count_workers(nodes, 8.0, 0.0)
    with pytest.raises(ArgumentError, match="1 CPU and 1 GPU"):
        count_workers([{"CPU": 8.0}], 1.0, 1.0)
