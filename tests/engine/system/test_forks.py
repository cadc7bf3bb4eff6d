"""Forked children: nothing that another thread held at the fork is waited for."""

import os
import subprocess
import sys
import threading

import pytest
from forked import CHILD
from specs import spec_of

from revstep.engine.backends.ov.library import installed
from revstep.engine.system.forks import refuse_forked
from revstep.errors import BackendError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _run(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("threads", [1, 4])
def test_a_bundles_engine_goes_on_in_children_busy_or_idle_and_they_exit(tabular_bundle, threads):
    pytest.importorskip("onnxruntime")
    lines = _run(f"""
engine = revstep.load({str(tabular_bundle)!r}, device="cpu", threads={threads})
want = engine.sample(2, steps=3, seed=0).x.tobytes()
def work():
    assert engine.sample(2, steps=3, seed=0).x.tobytes() == want
    tasks = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else {threads}
    assert tasks == {threads}, tasks  # as many as asked for, in the child too
ended = [child(work), child(work, sys.exit), child(lambda: None, sys.exit)]
stop = threading.Event()
def sample():
    while not stop.is_set():
        engine.sample(2, steps=10)
others = [threading.Thread(target=sample) for _ in range(9)]
for thread in others:
    thread.start()
time.sleep(0.2)
ended += [child(work), child(work, sys.exit)]
stop.set()
for thread in others:
    thread.join()
print(*ended)
""")
    assert lines[-1].split() == ["0"] * 5, lines


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("warm", [True, False])
def test_an_openvino_engine_goes_on_in_children_busy_or_idle_and_they_exit(
    tabular_bundle, tmp_path, monkeypatch, threads, warm
):
    if not installed():
        pytest.skip("OpenVINO is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines = _run(f"""
import numpy as np
options = dict(device="cpu", threads={threads}, backend="openvino")
engine = revstep.load({str(tabular_bundle)!r}, **options)
gone = revstep.load({str(tabular_bundle)!r}, **options)
want = gone.sample(2, steps=3, seed=0).x
del gone  # and leaves its threads to who comes next
if {warm}:
    engine.sample(2, steps=3, seed=0)
def work():
    for rows in (2, 3):
        got = engine.sample(rows, steps=3, seed=0).x[:2]
        assert np.abs(got - want).max() < 1e-5
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/task")) == 1
    assert engine.describe()["threads"] == 1
    assert child(lambda: engine.sample(1, steps=2)) == "0"
ended = [child(work), child(work, sys.exit), child(lambda: None, sys.exit)]
stop = threading.Event()
def sample():
    while not stop.is_set():
        engine.sample(2, steps=10)
others = [threading.Thread(target=sample) for _ in range(3)]
for thread in others:
    thread.start()
time.sleep(0.5)
ended += [child(work), child(work, sys.exit)]
stop.set()
for thread in others:
    thread.join()
assert engine.describe()["threads"] == {threads}
assert np.array_equal(engine.sample(2, steps=3, seed=0).x, want)
print(*ended)
""")
    assert lines[-1].split() == ["0"] * 5, lines


def test_a_decoder_in_use_at_the_fork_is_opened_anew(image_bundle):
    pytest.importorskip("onnxruntime")
    lines = _run(f"""
engine = revstep.load({str(image_bundle)!r}, device="cpu", threads=1)
want = engine.sample(1, steps=2, seed=0).decoded.tobytes()
decoder = engine._decoder._opened._shared
inside, go = threading.Event(), threading.Event()
def hold():
    with decoder:
        inside.set()
        go.wait()
thread = threading.Thread(target=hold)
thread.start()
inside.wait()
held = decoder.session
def work():
    assert engine.sample(1, steps=2, seed=0).decoded.tobytes() == want
    assert decoder.session is not held
print(child(work))
go.set()
thread.join()
assert decoder.session is held
""")
    assert lines == ["0"]


def test_a_child_that_must_open_its_graph_again_refuses_another_one(copy_of, tabular_bundle):
    pytest.importorskip("onnxruntime")
    lines = _run(f"""
import pathlib, shutil
bundle = pathlib.Path({str(copy_of(tabular_bundle))!r})
engine = revstep.load(bundle, device="cpu", threads=2)
graph = bundle / "denoiser.fp32.onnx"
shutil.copy(graph, bundle / "other.onnx")
(bundle / "other.onnx").replace(graph)
print(child(lambda: engine.sample(1, steps=1)))
engine.sample(1, steps=1)
""")
    assert lines[-1] == "7"
    assert "was changed since it was loaded" in lines[0]
    assert "load the engine in the child" in lines[0]


def test_a_run_that_forks_in_its_callback_ends_in_both(tabular_bundle):
    pytest.importorskip("onnxruntime")
    lines = _run(f"""
engine = revstep.load({str(tabular_bundle)!r}, device="cpu", threads=1)
want = engine.sample(2, steps=3, seed=0).x.tobytes()
ended = []
def fork(done, of):
    if done == 2:
        ended.append(child(lambda: engine.sample(1, steps=2)))
assert engine.sample(2, steps=3, seed=0, progress=fork).x.tobytes() == want
print(*ended)
""")
    assert lines == ["0"]


def test_a_batch_that_another_thread_makes_at_the_fork_holds_no_lock():
    told = _run("""
import numpy as np
from revstep.engine.runtime.batch import Batch
inside, go = threading.Event(), threading.Event()
class Slow:
    def __ne__(self, other):
        inside.set()
        go.wait()
        return np.ones(1, bool)
def guided(guidance):
    return Batch(np.zeros(1, np.uint64), guidance, {}, {}).guided.tolist()
thread = threading.Thread(target=guided, args=(Slow(),))
thread.start()
inside.wait()
def work():
    assert guided(np.full(1, 2, np.float32)) == [0]
print(child(work))
go.set()
thread.join()
""")
    assert told == ["0"]


def test_what_registers_is_renewed_in_children_only_while_it_lives():
    lines = _run("""
from revstep.engine.backends.ov.library import installed
from revstep.engine.system.forks import renew_in_children
class Thing:
    renewed = 0
    def after_fork(self):
        self.renewed += 1
kept, gone = Thing(), Thing()
for thing in (kept, gone):
    renew_in_children(thing)
del thing, gone
def work():
    assert kept.renewed == 1
    assert child(lambda: None) == "0"
print(child(work), kept.renewed)
""")
    assert lines == ["0 0"]


@pytest.mark.parametrize(
    ("parents", "childs", "how"),
    [(2, 2, "7"), (2, 1, "0"), (1, 1, "0"), (1, 2, "0")],
)
def test_a_live_module_that_ran_on_several_threads_is_refused_in_a_child(parents, childs, how):
    pytest.importorskip("torch")
    lines = _run(f"""
import torch
torch.set_num_threads({parents})
schedule = revstep.schedules.VPSchedule()
spec = revstep.DenoiserSpec(shape=(4,), schedule=schedule, prediction="epsilon")
class Net(torch.nn.Module):  # too small for torch to start a thread: the guard is tested alone
    def forward(self, x, t):
        return x * 0.5
engine = revstep.from_module(Net(), spec, device="cpu")
engine.sample(1, steps=1)
def work():
    torch.set_num_threads({childs})
    engine.sample(1, steps=1)
print(child(work))
engine.sample(1, steps=1)
""")
    assert lines[-1] == how
    if how == "7":
        assert "call torch.set_num_threads(1) in the child" in lines[0]


def test_a_gpu_is_refused_in_another_process_by_name():
    refuse_forked(os.getpid(), "cuda:0")
    with pytest.raises(BackendError, match=r"cuda:0.*forked child.*'spawn'.*load the engine there"):
        refuse_forked(os.getpid() + 1, "cuda:0")


def test_a_devices_lane_of_another_process_refuses_its_run():
    pytest.importorskip("torch")
    from toys import build

    from revstep import Engine
    from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
    from suites.torch_host import torch_host_runtime

    module, spec, _ = build("tabular")
    runtime = torch_host_runtime(TorchModuleDenoiser(module, spec), buckets=(2,))
    engine = Engine(runtime)
    engine.sample(1, steps=1)
    runtime._lanes._process += 1
    runtime._lanes._lock.acquire()  # as a fork may leave it: the refusal must not wait
    with pytest.raises(BackendError, match="forked child"):
        engine.sample(1, steps=1)


def test_cuda_in_a_child_of_a_process_that_used_it_is_named(monkeypatch):
    torch = pytest.importorskip("torch")
    from revstep.engine.devices.choose import cuda_device

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(BackendError, match=r"forked from one that used CUDA.*'spawn'"):
        cuda_device("cuda")


def test_a_fork_waits_for_calls_that_are_inside_and_newcomers_wait_for_it():
    lines = _run("""
from revstep.engine.system.forks import HeldAtForks
calls, seen, begun = HeldAtForks(), [], threading.Event()
def slow():
    with calls.call():
        begun.set()
        time.sleep(0.2)
        seen.append("call ended")
def late():
    begun.wait()
    time.sleep(0.05)  # while the fork waits
    with calls.call():
        seen.append("came later")
threads = [threading.Thread(target=slow), threading.Thread(target=late)]
for thread in threads:
    thread.start()
begun.wait()
pid = os.fork()
if pid == 0:
    with calls.call():  # the child has nobody inside, and no lock
        os._exit(0 if seen == ["call ended"] else 4)
for thread in threads:
    thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *seen)
""")
    assert lines == ["0 call ended came later"]


def test_what_is_made_while_another_fork_is_under_way_says_nothing_of_it():
    """As where a library's own thread forks while its import goes on here."""
    lines = _run("""
import sys
from revstep.engine.system.forks import HeldAtForks
made, said = [], []
sys.unraisablehook = said.append
os.register_at_fork(before=lambda: made.append(HeldAtForks()))
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
with made[0].call():
    print(len(made), [str(one.exc_value) for one in said])
""")
    assert lines == ["1 []"]


def test_a_pool_that_another_thread_holds_is_free_after_a_fork():
    from networks import NumpyDenoiser, gaussian_epsilon

    from revstep.engine.runtime.pool import LanePool
    from revstep.engine.runtime.runtime import host_lane

    spec = spec_of(shape=(3,), batch=(1, 4))
    denoiser = NumpyDenoiser(spec, gaussian_epsilon(spec))
    pool = LanePool(lambda buckets: host_lane(denoiser, buckets), 1, "native")
    lent = pool.lend(2)
    lent.__enter__()
    pool.after_fork()
    got = []

    def other():
        with pool.lend(2) as lane:
            got.append(lane)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert len(got) == 1
    lent.__exit__(None, None, None)
