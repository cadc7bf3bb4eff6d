"""Networks beside the denoiser in TensorRT: arrays through a plan's memory, and which plan."""

import dataclasses
import logging
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from fake_trt import Faults, fake_trt, graph_plan  # noqa: E402

from revstep.engine.backends.onnx_part import OrtPart  # noqa: E402
from revstep.engine.backends.trt import choice  # noqa: E402
from revstep.engine.backends.trt.choice import GpuModel, open_tensorrt_part  # noqa: E402
from revstep.engine.backends.trt.library import TrtLibrary  # noqa: E402
from revstep.engine.backends.trt.part import TrtPart  # noqa: E402
from revstep.engine.backends.trt.plan import TrtPlan  # noqa: E402
from revstep.engine.bundle.entry import CompiledEntry  # noqa: E402
from revstep.engine.bundle.reader import Bundle  # noqa: E402
from revstep.engine.bundle.record import record_all  # noqa: E402
from revstep.engine.errors import BackendError, DeviceMemoryError  # noqa: E402
from revstep.engine.open.parts import Parts  # noqa: E402

L4 = GpuModel("NVIDIA L4", (8, 9))
VERSION = "10.16.1"
KEYS = ("encoder.text", "picture_encoder", "decoder")


def library(faults=None):
    return TrtLibrary("tensorrt", fake_trt(faults), VERSION, rtx=False)


@pytest.fixture
def graphs(reading_bundle):
    bundle = Bundle.open(reading_bundle)
    return {key: bundle.part_graph(key, "fp32") for key in KEYS}


def part(graph, rows=(1, 1, 4), faults=None, **options):
    plan = TrtPlan(graph_plan(graph, *rows, **options), library(faults), label="k.plan",
                   command="revstep compile x")  # fmt: skip
    return TrtPart(plan, "the encoder", device="cpu")


def values(ports, rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        p.name: (
            rng.integers(0, 30, (rows, *p.dims[1:]))
            if p.dtype == np.int64
            else rng.standard_normal((rows, *p.dims[1:]))
        ).astype(p.dtype)
        for p in ports
    }


@pytest.mark.parametrize("key", KEYS)
def test_arrays_go_through_the_plan_whatever_rows_came_before(graphs, key):
    made, wanted = part(graphs[key]), OrtPart(graphs[key], "it", threads=1)
    assert made.rows == 4
    for name in ("inputs", "outputs"):
        ours, theirs = getattr(made, name), getattr(wanted, name)
        assert [(p.name, p.dtype) for p in ours] == [(p.name, p.dtype) for p in theirs]
        assert [tuple(p.dims[1:]) for p in ours] == [tuple(p.dims[1:]) for p in theirs]
    kept = []
    for rows in (4, 1, 3, 3, 4):
        feeds = values(made.inputs, rows, rows)
        for array in feeds.values():
            array.setflags(write=False)
        found, expected = made.run(feeds), wanted.run(feeds)
        kept.append((found, expected))
    for found, expected in kept:  # no later call wrote into an earlier one's
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, want)
    assert made.describe() == {
        "backend": "tensorrt", "version": VERSION, "device": "cpu", "rows": [1, 4],
    }  # fmt: skip


def test_calls_of_several_threads_keep_to_themselves(graphs):
    made, wanted = part(graphs["encoder.text"]), OrtPart(graphs["encoder.text"], "it", threads=1)
    wrong = []

    def work(seed):
        for k in range(40):
            feeds = values(made.inputs, 1 + (seed + k) % 4, 100 * seed + k)
            pairs = zip(made.run(feeds), wanted.run(feeds), strict=True)
            wrong.extend(1 for got, want in pairs if not np.array_equal(got, want))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_rows_and_shapes_that_a_copy_would_broadcast_are_refused(graphs):
    made = part(graphs["decoder"])
    for shape in ((5, 2, 4, 4), (0, 2, 4, 4), (2, 1, 4, 4), (2, 2, 4)):
        with pytest.raises(ValueError, match=r"takes 'latent' of shape .*1 to 4 rows"):
            made.run({"latent": np.zeros(shape, np.float32)})


def test_a_plan_without_a_single_row_or_of_another_type_is_refused(graphs):
    with pytest.raises(BackendError, match=r"takes 2 rows and more; .*run: revstep compile x"):
        part(graphs["decoder"], (2, 2, 4))

    def half(tensors):
        return [[*tensors[0][:3], "HALF"], *tensors[1:]]

    with pytest.raises(BackendError, match=r"'latent' in float16; .*run: revstep compile x"):
        part(graphs["decoder"], change=half)


CALLS = ("create_execution_context", "set_input_shape", "infer_shapes", "set_tensor_address",
         "execute_async_v3")  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_what_fails_fails_when_it_is_opened(graphs, call):
    with pytest.raises(DeviceMemoryError, match="memory is too small"):
        part(graphs["decoder"], faults=Faults(call, "Error Code 2: OutOfMemory"))


@pytest.mark.parametrize(("compiles", "runs"), [(False, 1), (True, 4)])
def test_kernels_are_compiled_for_every_number_of_rows_before_a_request(graphs, compiles, runs):
    faults = Faults()
    data = graph_plan(graphs["decoder"], 1, 1, 4)
    plan = TrtPlan(data, library(faults), label="k.plan", command="")
    plan.compiles = compiles
    TrtPart(plan, "it", device="cpu")
    assert len(faults.streams) == runs


def test_a_failed_run_names_the_network_and_the_next_one_works(graphs):
    faults = Faults()
    made = part(graphs["encoder.text"], faults=faults)
    feeds = values(made.inputs, 2)
    for call in ("execute_async_v3", "set_input_shape"):
        faults.call, faults.says = call, "Error Code 9: strange"
        with pytest.raises(BackendError, match=r"the encoder failed: k\.plan .*strange"):
            made.run({name: value[: 1 + (call[0] == "e")] for name, value in feeds.items()})
        faults.call = ""
        for got, want in zip(
            made.run(feeds), OrtPart(graphs["encoder.text"], "it").run(feeds), strict=True
        ):
            np.testing.assert_array_equal(got, want)


def entry(part, rows, target="tensorrt", version=VERSION, device=str(L4)):
    key = f"{part or 'denoiser'}-{target}-{rows[1]}"
    return CompiledEntry(
        key=key, target=target, precision="fp32", runtime=target, version=version, device=device,
        batch=rows, file=f"engines/{key}.plan", parity="no", tuned=rows[0], part=part,
    )  # fmt: skip


@pytest.fixture
def here(monkeypatch):
    """This machine has an L4 and a TensorRT."""
    monkeypatch.setattr(GpuModel, "current", lambda device="cuda": L4)
    monkeypatch.setattr(choice, "trt_library", lambda name: library())
    monkeypatch.setattr(choice, "installed_versions", lambda: {"tensorrt": VERSION})


@pytest.fixture
def compiled(reading_bundle, copy_of):
    """A function: the bundle with these entries, and plans of parts that run."""

    def make(*entries):
        bundle = Bundle.open(copy_of(reading_bundle))
        files = {
            e.file: graph_plan(bundle.part_graph(e.part, "fp32"), e.batch[0], e.tuned, e.batch[1])
            if e.part
            else b"a plan"
            for e in entries
        }
        record_all(bundle, entries, files)
        return Bundle.open(bundle.path)

    return make


def opened(bundle, key="decoder", target="tensorrt", precision="fp32"):
    return open_tensorrt_part(bundle, key, "it", target=target, precision=precision, device="cpu")


def test_the_plan_of_most_rows_of_this_gpu_is_taken(compiled, here):
    few, many = entry("decoder", (1, 1)), entry("decoder", (1, 8))
    other = entry("decoder", (1, 8), device="NVIDIA A10 (sm_86)")
    bundle = compiled(few, many, dataclasses.replace(other, key="o", file="engines/o.plan"))
    made = opened(bundle)
    assert made.rows == 8
    assert made.plans[0].label == "decoder-tensorrt-8.plan"
    assert opened(bundle, precision="fp16").rows == 8  # its graph is fp32 in any


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "decoder has no TensorRT plan of fp32 for NVIDIA L4"),
        ([entry("encoder.text", (1, 8))], "decoder has no TensorRT plan"),
        ([entry("decoder", (1, 8), "tensorrt_rtx")], "decoder has no TensorRT plan"),
        ([entry("decoder", (1, 8), device="NVIDIA A10 (sm_86)")], r"are for NVIDIA A10 \(sm_86\)"),
        ([entry("decoder", (1, 8), version="10.0.1")], r"built by tensorrt 10\.0\.1; installed is"),
    ],
)
def test_without_one_the_command_of_the_denoisers_plans_is_named(compiled, here, entries, message):
    bundle = compiled(*entries)
    with pytest.raises(BackendError, match=message) as caught:
        opened(bundle)
    command = f"revstep compile {bundle.path} --target tensorrt --precision fp32 --batch"
    assert str(caught.value).endswith(f"{command} 1")
    bundle = dataclasses.replace(bundle, compiled=(entry(None, (1, 1)), entry(None, (8, 8))))
    with pytest.raises(BackendError, match=message) as caught:
        opened(bundle)
    assert str(caught.value).endswith(f"{command} 8")


def test_a_changed_plan_is_refused_with_its_command(compiled, here):
    bundle = compiled(entry(None, (16, 16)), entry("decoder", (1, 8)))
    (bundle.path / bundle.compiled_parts[0].file).write_bytes(b"cut")
    with pytest.raises(BackendError, match=r"cut short or changed .*--batch 16$"):
        opened(bundle)


def parts(bundle, used="tensorrt"):
    return Parts(bundle, used, "fp32", 1, torch.device("cuda", 0))


def test_what_runs_the_denoiser_runs_the_rest_too(compiled, here, monkeypatch):
    real = TrtPart.__init__
    monkeypatch.setattr(
        TrtPart, "__init__", lambda self, plan, who, *, device: real(self, plan, who, device="cpu")
    )
    bundle = compiled(*(entry(key, (1, 2)) for key in KEYS))
    made = parts(bundle)
    latents = np.random.default_rng(0).standard_normal((5, 2, 4, 4)).astype(np.float32)
    decoder = made.decoder()
    assert decoder.describe()["backend"] == "tensorrt"
    wanted = Parts(bundle, "onnxruntime", "fp32", 1, None).decoder()
    np.testing.assert_allclose(decoder(latents), wanted(latents), rtol=1e-6)
    assert made.picture_encoder() is not None
    assert made.encoders(keep=0) is not None


def test_without_a_plan_onnxruntime_does_with_a_warning(compiled, here, monkeypatch, caplog):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    bundle = compiled(entry(None, (4, 4)))
    with caplog.at_level(logging.WARNING, "revstep"):
        made = parts(bundle).decoder()
    assert made.describe()["backend"] == "onnxruntime"
    first, second = caplog.messages
    assert first.startswith("the latent decoder runs in ONNX Runtime on the GPU: ")
    assert first.endswith(
        f"revstep compile {bundle.path} --target tensorrt --precision fp32 --batch 4"
    )
    assert second.startswith("the latent decoder runs in ONNX Runtime on the CPU: ")
