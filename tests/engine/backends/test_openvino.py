"""The ``openvino`` backend: ONNX Runtime's samples, its precision, rows and threads."""

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import every_dtype
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import revstep
from revstep import build_program
from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.backends.ov import library
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.bundle.reader import Bundle
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.runtime import host_lane
from revstep.engine.system import machine

if not library.installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from revstep.engine.backends.ov.denoiser import OpenVinoDenoiser

BF16 = pytest.mark.skipif(not machine.has_bf16(), reason="this processor has no bf16")
PARITY = 1e-3  # of a whole run's samples, as export's bound for fp32
CONDITIONS = {
    "tabular": lambda n: {},
    "policy": lambda n: {"observation": np.linspace(-1, 1, 4 * n, dtype="f4").reshape(n, 4)},
    "image": lambda n: {"label": np.arange(n) % 5},
    "every": every_dtype.values,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "revstep" / "openvino"


@pytest.fixture(scope="session")
def every_bundle(tmp_path_factory):
    from revstep.export import export_module

    path = tmp_path_factory.mktemp("every") / "every.revstep"
    spec = every_dtype.spec(*every_dtype.CONDITIONS)
    export_module(every_dtype.Every(), spec, path, source={"kind": "factory", "name": "every"})
    return path


@pytest.fixture(scope="session")
def bundles(tabular_bundle, policy_bundle, image_bundle, every_bundle):
    return {
        "tabular": tabular_bundle,
        "policy": policy_bundle,
        "image": image_bundle,
        "every": every_bundle,
    }


@pytest.fixture(scope="session")
def engines(bundles):
    return {
        (name, backend, reproducible): revstep.load(
            path, backend=backend, device="cpu", threads=1, reproducible=reproducible
        )
        for name, path in bundles.items()
        for backend, reproducible in (
            ("onnxruntime", False), ("openvino", False), ("openvino", True),
        )
    }  # fmt: skip


def loaded(bundle, **options):
    options = {"backend": "openvino", "device": "cpu", "threads": 1, **options}
    return revstep.load(bundle, **options)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(list(CONDITIONS)),
    n=st.integers(1, 4),
    sampler=st.sampled_from(["ddim", "dpmpp_2m", "euler"]),
    guidance=st.sampled_from([1.0, 1.7]),
    seed=st.integers(0, 2**32),
)
def test_samples_are_onnx_runtimes_within_the_parity_bound(
    engines, name, n, sampler, guidance, seed
):
    asked = {"sampler": sampler, "steps": 4, "seed": seed, "conditions": CONDITIONS[name](n)}
    if name in ("image", "policy"):
        asked["guidance"] = guidance
    want = engines[name, "onnxruntime", False].sample(n, **asked).x
    got = engines[name, "openvino", False].sample(n, **asked).x
    assert np.sqrt(np.mean((got - want) ** 2)) <= PARITY * np.sqrt(np.mean(want**2))


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_reproducible_samples_have_the_same_bits_alone_and_in_company(engines, name):
    engine = engines[name, "openvino", True]
    conditions, seeds = CONDITIONS[name](4), [5, 6, 7, 8]
    together = engine.sample(4, steps=3, seed=seeds, conditions=conditions).x
    for i, seed in enumerate(seeds):
        own = {key: value[i : i + 1] for key, value in conditions.items()}
        alone = engine.sample(1, steps=3, seed=[seed], conditions=own).x
        np.testing.assert_array_equal(alone[0], together[i])


def _in_flight(denoiser):
    """The final states of two, and of one who came two steps later with guidance."""
    spec = denoiser.spec
    lane = host_lane(denoiser, (4,))
    program = build_program(spec, "ddim", steps=5)
    null = {"label": np.full(2, 4)}
    batches = [
        Batch(np.array([1, 2], np.uint64), np.ones(2, np.float32), {"label": np.arange(2)}, null),
        Batch(
            np.array([3], np.uint64),
            np.full(1, 2, np.float32),
            {"label": np.array([3])},
            {"label": np.full(1, 4)},
        ),
    ]
    first = lane.admit(program, batches[0])
    lane.step()
    lane.step()
    second = lane.admit(program, batches[1])
    states = []
    for here in (first, second):
        while not lane.done(here):
            lane.step()
        states.append(lane.states(here).copy())
        lane.retire(here)
    return np.concatenate(states)


def test_who_comes_in_mid_flight_gets_onnx_runtimes_samples(bundles):
    bundle = Bundle.open(bundles["image"])
    want, got = (
        _in_flight(made(bundle.graph("fp32"), bundle.spec, threads=1))
        for made in (OrtDenoiser, OpenVinoDenoiser)
    )
    assert np.sqrt(np.mean((got - want) ** 2)) <= PARITY * np.sqrt(np.mean(want**2))


@pytest.mark.parametrize("rows", [1, 3])
def test_one_call_is_onnx_runtimes_to_float32(bundles, rows):
    bundle = Bundle.open(bundles["every"])
    outs = []
    for made in (OrtDenoiser, OpenVinoDenoiser):
        buffers = NetworkBuffers.allocate(bundle.spec, rows)
        call = made(bundle.graph("fp32"), bundle.spec, threads=1).bind(buffers)
        rng = np.random.default_rng(0)
        buffers.x[:] = rng.standard_normal(buffers.x.shape)
        buffers.t[:] = 700.0
        for name, value in every_dtype.values(rows).items():
            buffers.conditions[name][:] = value
        call()
        outs.append(buffers.out)
    np.testing.assert_allclose(outs[1], outs[0], rtol=0, atol=1e-5)


def test_a_call_copies_no_output(bundles):
    bundle = Bundle.open(bundles["image"])
    buffers = NetworkBuffers.allocate(bundle.spec, 16)
    call = OpenVinoDenoiser(bundle.graph("fp32"), bundle.spec, threads=1).bind(buffers)
    tracemalloc.start()
    try:
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < buffers.out.nbytes, (peak, buffers.out.nbytes)


@BF16
def test_bf16_runs_the_fp32_graph_and_says_so(bundles):
    engine = loaded(bundles["tabular"], precision="bf16")
    assert engine.describe()["precision"] == "bf16"
    want = loaded(bundles["tabular"]).sample(3, steps=4, seed=0).x
    got = engine.sample(3, steps=4, seed=0).x
    assert 0 < np.abs(got - want).max() < 0.1


@BF16
@pytest.mark.parametrize("name", ["tabular", "image"])
def test_bf16_takes_times_in_float32(bundles, name):
    bundle = Bundle.open(bundles[name])
    bound = {}
    for precision in ("fp32", "bf16"):
        buffers = NetworkBuffers.allocate(bundle.spec, 2)
        denoiser = OpenVinoDenoiser(bundle.graph("fp32"), bundle.spec, precision=precision)
        bound[precision] = buffers, denoiser.bind(buffers)
    x = np.random.default_rng(1).standard_normal(buffers.x.shape)
    for t in np.array([0.01, 0.2, 0.55, 0.751, 0.999]) * (1000 if name == "image" else 1):
        for buffers, call in bound.values():
            buffers.x[:], buffers.t[:] = x, t
            call()
        want, got = (bound[p][0].out for p in ("fp32", "bf16"))
        assert np.sqrt(np.mean((got - want) ** 2)) < 0.01 * np.std(want), t


def test_an_engine_and_its_copy_and_its_prepared_run_have_the_same_bits(bundles):
    engine = loaded(bundles["tabular"])
    want = engine.sample(2, steps=3, seed=0).x
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(engine)).sample(2, steps=3, seed=0).x, want
    )
    np.testing.assert_array_equal(engine.prepare(2, steps=3)(seed=0).x, want)


def test_auto_takes_openvino_where_onnx_runtime_is_missing(bundles):
    code = f"""
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "onnxruntime":
            raise ModuleNotFoundError(name, name="onnxruntime")
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "onnxruntime" else found(name, *a)
sys.meta_path.insert(0, Missing())
import revstep
assert "openvino" not in sys.modules
engine = revstep.load({str(bundles["tabular"])!r}, device="cpu")
engine.sample(1, steps=2)
print(engine.describe()["backend"])
print(revstep.load({str(bundles["image"])!r}, device="cpu").describe()["parts"]["decoder"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    backend, decoder = done.stdout.splitlines()
    assert backend == "openvino"
    assert "'backend': 'openvino'" in decoder
    assert "latent decoder" not in done.stderr  # no warning


def test_openvino_is_imported_by_its_own_backend_alone(bundles):
    code = f"""
import sys, revstep
revstep.load({str(bundles["tabular"])!r}, device="cpu", backend="onnxruntime").sample(1, steps=2)
assert "openvino" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"buckets": (2, 5)}, [2, 5]),
        ({"reproducible": True}, [16]),
        ({"reproducible": True, "buckets": (2, 4)}, [4]),
        ({}, []),
    ],
)
def test_known_rows_are_compiled_at_load_and_others_in_the_first_run(
    bundles, caplog, options, rows
):
    caplog.set_level(logging.INFO, "revstep")
    engine = loaded(bundles["tabular"], **options)

    def compiled():
        found = [r.args[2] for r in caplog.records if "network rows" in r.getMessage()]
        caplog.clear()
        return found

    assert compiled() == rows
    engine.sample(2, steps=2)
    assert compiled() == ([] if rows else [2])
    engine.sample(2, steps=2)
    assert compiled() == []


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="needs threads' clocks")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_runs_on_several_threads_work_at_the_same_time(demo_bundle):
    engine = loaded(demo_bundle)
    stop = threading.Event()

    def sample():
        while not stop.is_set():
            engine.sample(16, steps=3, conditions={"class_labels": np.zeros(16, np.int64)})

    threads = [threading.Thread(target=sample) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2.0)  # both have compiled
        clocks = [time.pthread_getcpuclockid(thread.ident) for thread in threads]
        both = 0
        for _ in range(40):  # of 30 ms each; a call takes longer
            before = [time.clock_gettime(clock) for clock in clocks]
            time.sleep(0.03)
            both += all(
                time.clock_gettime(clock) - begun > 2e-3
                for clock, begun in zip(clocks, before, strict=True)
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert both >= 20


def test_it_is_described(bundles):
    described = loaded(bundles["tabular"], threads=2).describe()
    assert described["backend"] == "openvino"
    assert described["version"] == library.version()
    assert (described["precision"], described["device"]) == ("fp32", "cpu")
    assert described["threads"] == 2
