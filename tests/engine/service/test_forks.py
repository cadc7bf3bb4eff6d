"""Forks, and ends: children begin anew, parents go on, and no process hangs as it exits."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from forked import CHILD
from service_networks import export_network

from revstep.engine.backends.ov import library

# what every process begins with, after ``CHILD``
BEGIN = """
import functools, gc
import numpy as np

child = functools.partial(child, seconds=60.0)

engine = revstep.load({bundle!r}, device="cpu", backend={backend!r}, threads={threads})
CONDITIONS = {{"label": 1}}
want = engine.sample(2, steps=3, seed=0, conditions=CONDITIONS).x

def check(service):
    got = service.submit(2, steps=3, seed=0, conditions=CONDITIONS).result(60).x
    assert np.abs(got - want).max() < 1e-5
"""


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request):
    if request.param == "openvino" and not library.installed():
        pytest.skip("OpenVINO is not installed")
    return request.param


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_network("linear", tmp_path_factory.mktemp("forks") / "linear.revstep")


@pytest.fixture
def run(bundle, backend, tmp_path, monkeypatch):
    """Runs code in a process of its own; gives (its exit code, what it printed)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(code, threads=1):
        begin = BEGIN.format(bundle=str(bundle), backend=backend, threads=threads)
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD + begin + code],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.splitlines()

    return run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_children_begin_anew_and_the_parent_goes_on(run, threads):
    code, lines = run(
        """
def work():
    stats = service.stats()
    assert (stats.queued, stats.running, sum(stats.outcomes.values())) == (0, 0, 0)
    check(service)
    try:
        busy[-1].result(60)
    except revstep.errors.BackendError as error:
        assert "forked child" in str(error)
    else:
        assert False, "the parent's request in the child"
    assert not busy[-1].cancel()
    assert child(lambda: check(service)) == "0"
    service.drain()
    service.close()

service = revstep.Service(engine)
ended = [child(lambda: check(service))]  # before its thread began
busy = [service.submit(16, steps=900) for _ in range(200)]
ended += [child(work), child(work, sys.exit), child(lambda: None, sys.exit)]
assert not busy[-1].done()
for job in busy[1:]:
    job.cancel()
assert busy[0].result(60).calls == 900
ended += [child(lambda: check(service), sys.exit)]  # idle
check(service)
assert service.stats().outcomes["failed"] == 0
print(*ended)
""",
        threads,
    )
    assert lines[-1].split() == ["0"] * 5, lines
    assert code == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_of_a_process_whose_threads_submit_and_cancel_all_the_time(run):
    """Whatever lock of the service is held at the fork, the child doesn't wait for it."""
    code, lines = run("""
service = revstep.Service(engine, max_queue=64)
stop = threading.Event()

def clients():
    while not stop.is_set():
        try:
            job = service.submit(2, steps=4)
        except revstep.errors.QueueFullError:
            continue
        if job.seeds[0] % 2:
            job.cancel()
        service.stats()

threads = [threading.Thread(target=clients) for _ in range(4)]
for thread in threads:
    thread.start()
ended = {child(lambda: check(service)) for _ in range(25)}
stop.set()
for thread in threads:
    thread.join()
assert service.drain(60.0)
print(*ended)
""")
    assert lines[-1] == "0", lines
    assert code == 0


@pytest.mark.parametrize("state", ["unused", "idle", "busy", "leaving", "watched"])
def test_a_process_exits_beside_a_service_that_nobody_closed(run, state):
    code, lines = run(f"""
state = {state!r}
service = revstep.Service(engine)
if state == "idle":
    check(service)
if state not in ("unused", "idle"):
    jobs = [service.submit(16, steps=900, previews=1) for _ in range(100)]
    while not service.stats().steps:
        time.sleep(0.001)
if state == "watched":
    def read():
        try:
            for progress in jobs[0].progress():
                pass
        except revstep.errors.RevstepError as error:
            print(type(error).__name__, flush=True)
    threading.Thread(target=read, daemon=True).start()
print("end", flush=True)
if state == "leaving":
    sys.exit(5)
""")
    assert code == (5 if state == "leaving" else 0)
    assert "end" in lines


def test_a_service_that_nobody_has_any_more_answers_and_ends_its_thread(run):
    code, lines = run("""
def names():
    return [thread.name for thread in threading.enumerate()]

service = revstep.Service(engine)
check(service)
jobs = [service.submit(16, steps=900) for _ in range(50)]
assert any("revstep" in name for name in names())
service.itself = service  # in a cycle
del service
gc.collect()
ends = set()
for job in jobs:
    try:
        ends.add(type(job.result(60)).__name__)
    except revstep.errors.ServiceClosedError:
        ends.add("closed")
assert "closed" in ends, ends
end = time.monotonic() + 60.0
while any("revstep" in name for name in names()):
    assert time.monotonic() < end, names()
    time.sleep(0.001)
print("end")
""")
    assert code == 0
    assert lines[-1] == "end"


def test_a_process_that_exits_while_samples_wait_for_the_decoder_answers_all(run):
    code, lines = run("""
import atexit

def decode(x):
    time.sleep(0.002)
    return x

decoded = revstep.Engine(engine.runtime, decoder=decode)
service = revstep.Service(decoded, max_queue=400)
jobs = [service.submit(1, steps=50 + k % 7) for k in range(300)]
jobs[0].result(60)
atexit.register(lambda: print(*sorted({type(job.exception(60)).__name__ for job in jobs})))
print("end", flush=True)
""")
    assert code == 0
    assert lines[0] == "end"
    assert set(lines[1].split()) <= {"NoneType", "ServiceClosedError"}
