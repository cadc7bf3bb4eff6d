"""Real bundles in a real ONNX Runtime session."""

import logging
import subprocess
import sys
import threading

import numpy as np
import pytest

import revstep
from revstep import NetworkBuffers
from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.bundle.reader import Bundle
from revstep.engine.program.samplers import DDIM
from revstep.engine.program.table import build_program
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.runtime import host_lane
from revstep.errors import BackendError, BundleError

pytest.importorskip("onnxruntime")

LABELS = {"class_labels": np.arange(10)}


@pytest.fixture(scope="module")
def engine(demo_bundle):
    return revstep.load(demo_bundle, threads=1)


@pytest.fixture(scope="module")
def golden(demo_folder):
    return pytest.importorskip("safetensors.numpy").load_file(demo_folder / "golden.safetensors")


def test_golden_network_outputs_hold(demo_bundle, golden):
    bundle = Bundle.open(demo_bundle)
    buffers = NetworkBuffers.allocate(bundle.spec, len(golden["t"]))
    network = OrtDenoiser(bundle.graph("fp32"), bundle.spec, threads=1).bind(buffers)
    buffers.x[:], buffers.t[:] = golden["x"], golden["t"]
    buffers.conditions["class_labels"][:] = golden["y"]
    network()
    np.testing.assert_allclose(buffers.out, golden["v"], atol=1e-5)


def test_golden_ddim_run_holds(engine, golden):
    got = engine.sample(
        steps=20,
        guidance=1.5,
        conditions=LABELS,
        noise=golden["ddim20_noise"],
        sampler=DDIM(epsilon="rederive"),
        compat="diffusers",
        clip=True,
    )
    np.testing.assert_allclose(got.x, golden["ddim20_w1p5_final"], atol=2e-5)


def test_golden_state_after_five_steps_holds(demo_bundle, golden):
    bundle = Bundle.open(demo_bundle)
    lane = host_lane(OrtDenoiser(bundle.graph("fp32"), bundle.spec, threads=1), (20,))
    labels = np.arange(10)
    batch = Batch(
        seeds=np.zeros(10, np.uint64),
        guidance=np.full(10, 1.5, np.float32),
        conditions={"class_labels": labels},
        null_conditions={"class_labels": np.full(10, 10)},
        noise=golden["ddim20_noise"],
    )
    program = build_program(bundle.spec, DDIM(epsilon="rederive"), 20, compat="diffusers")
    samples = lane.admit(program, batch)
    for _ in range(5):
        lane.step()
    want = golden["ddim20_w1p5_step5"]
    np.testing.assert_allclose(lane.states(samples).reshape(want.shape), want, atol=2e-5)


def test_fp16_graph_stays_close_to_fp32(demo_bundle, engine):
    half = revstep.load(demo_bundle, precision="fp16", threads=1)
    options = {"steps": 8, "seed": 3, "guidance": 1.5, "conditions": LABELS}
    assert half.describe()["precision"] == "fp16"
    error = half.sample(10, **options).x - engine.sample(10, **options).x
    assert 0 < np.sqrt(np.mean(error**2)) < 0.03


def test_describe_reports_what_runs(engine, demo_bundle):
    described = engine.describe()
    assert described["backend"] == "onnxruntime"
    assert described["device"] == "cpu"
    assert described["precision"] == "fp32"
    assert described["bundle"] == str(demo_bundle)
    assert described["threads"] == 1
    assert described["checked"] is False


def test_unchecked_bundle_is_loaded_with_a_warning_that_names_the_command(demo_bundle, caplog):
    with caplog.at_level(logging.WARNING, "revstep"):
        revstep.load(demo_bundle)
    assert f"revstep compile {demo_bundle} --target onnxruntime --precision fp32" in caplog.text


def test_same_row_gives_the_same_bits_in_any_company_when_reproducible(demo_bundle):
    engine = revstep.load(demo_bundle, reproducible=True, threads=1)
    options = {"sampler": "ddpm", "steps": 4, "guidance": 1.5}
    labels = np.arange(7) % 10
    whole = engine.sample(7, seed=50, conditions={"class_labels": labels}, **options).x
    for k in (0, 3, 6):
        alone = engine.sample(1, seed=50 + k, conditions={"class_labels": [labels[k]]}, **options)
        np.testing.assert_array_equal(alone.x[0], whole[k])
    order = [6, 2, 0, 5]
    mixed = engine.sample(
        seed=[50 + k for k in order], conditions={"class_labels": labels[order]}, **options
    )
    np.testing.assert_array_equal(mixed.x, whole[order])


def test_threads_give_the_same_bits_as_one_after_the_other(engine):
    rng = np.random.default_rng(0)
    jobs = []
    for k in range(20):
        n = int(rng.integers(1, 5))
        jobs.append(
            {
                "n": n,
                "seed": k,
                "sampler": ["ddim", "ddpm", "dpmpp_2m"][k % 3],
                "steps": int(rng.integers(1, 5)),
                "guidance": [1.0, 1.5, 3.0][k % 3],
                "conditions": {"class_labels": rng.integers(0, 10, n)},
            }
        )
    want = [engine.sample(**job).x for job in jobs]
    wrong = []

    def worker(number):
        order = np.random.default_rng(number).permutation(len(jobs))
        wrong.extend(
            int(j) for j in order if not np.array_equal(engine.sample(**jobs[j]).x, want[j])
        )

    threads = [threading.Thread(target=worker, args=(k,)) for k in range(5)]  # 100 interleaved runs
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_runtime_on_a_cpu_imports_no_torch(demo_bundle):
    code = (
        "import sys, revstep\n"
        f"revstep.load({str(demo_bundle)!r}, threads=1).sample(1, steps=1, seed=0)\n"
        "heavy = {'torch', 'onnx', 'diffusers', 'onnxscript', 'triton'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_latent_decoder_runs_after_the_loop(image_bundle):
    engine = revstep.load(image_bundle, threads=1)
    samples = engine.sample(9, steps=2, seed=0)
    assert samples.x.shape == (9, *engine.spec.shape)
    assert samples.numpy().shape == (9, *engine.spec.decoder.shape)
    assert engine.sample(1, steps=2, seed=0, decode=False).decoded is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "tensorflow"}, ValueError, "allowed: auto, onnxruntime"),
        ({"device": "cuda:x"}, ValueError, "allowed: auto, cpu, cuda"),
        ({"device": "gpu"}, ValueError, "allowed: auto, cpu, cuda"),
        ({"backend": "torch"}, BackendError, "from_module"),
        ({"backend": "tensorrt", "device": "cpu"}, BackendError, "on a CPU backend='onnxruntime'"),
        ({"buckets": (0, 8), "device": "cpu"}, ValueError, "outside the denoiser's batch range"),
        ({"cuda": revstep.CudaOptions(unroll=(20,)), "device": "cpu"}, ValueError, "needs a GPU"),
        (
            {"backend": "tensorrt", "precision": "bf16"},
            BundleError,
            "add it with: revstep export",
        ),
        (
            {"backend": "onnxruntime", "precision": "bf16", "device": "cpu"},
            BackendError,
            r"no bf16 products on a CPU; pip install 'revstep\[openvino\]'",
        ),
        ({"precision": "int3"}, BundleError, "allowed: fp32, fp16, bf16"),
        (
            {"threads": 0},
            ValueError,
            "threads=0 is out of range",
        ),
    ],
)
def test_bad_options_are_refused(demo_bundle, options, error, message):
    with pytest.raises(error, match=message):
        revstep.load(demo_bundle, **options)


def test_graph_of_another_spec_is_refused(demo_bundle, policy_bundle):
    graph = Bundle.open(policy_bundle).graph("fp32")
    with pytest.raises(BackendError, match="export the bundle again"):
        OrtDenoiser(graph, Bundle.open(demo_bundle).spec)


def test_missing_onnxruntime_is_named_with_its_extra(demo_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'revstep\[cpu\]'"):
        revstep.load(demo_bundle, backend="onnxruntime", device="cpu")
