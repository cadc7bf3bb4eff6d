"""Encoders, picture encoder and decoder in OpenVINO: the values, bits, threads and forks."""

import os
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from forked import CHILD

import revstep
from revstep.engine.backends.onnx_part import OrtPart
from revstep.engine.backends.ov import library
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError
from revstep.engine.system.machine import has_bf16

pytest.importorskip("onnxruntime")
if not library.installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from revstep.engine.backends.ov.part import OpenVinoPart

KEYS = ("encoder.text", "picture_encoder", "decoder")
NAMES = frozenset(("tokens", "picture", "latent", "image", "state"))


def part(bundle, key, **options):
    return OpenVinoPart(Bundle.open(bundle).part_graph(key, "fp32"), key, NAMES, **options)


def feeds(bundle, key):
    opened = Bundle.open(bundle)
    parity = opened.parity()
    if key == "decoder":
        return {"latent": parity["ddim20.final"]}
    start = f"{key}.in."
    return {k.removeprefix(start): v for k, v in parity.items() if k.startswith(start)}


@pytest.mark.parametrize("key", KEYS)
def test_it_gives_what_onnx_runtime_gives_in_any_batch(reading_bundle, key):
    given = feeds(reading_bundle, key)
    want = OrtPart(Bundle.open(reading_bundle).part_graph(key, "fp32"), key).run(given)
    opened = part(reading_bundle, key)
    got = opened.run(given)
    assert len(got) == len(want) == len(opened.outputs)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    alone = opened.run({name: value[1:2] for name, value in given.items()})
    for one, all_rows in zip(alone, got, strict=True):
        np.testing.assert_array_equal(one[0], all_rows[1])


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
def test_bf16_takes_the_fp32_graph(observing_bundle):
    given = feeds(observing_bundle, "encoder.observation")
    fp32, bf16 = (
        part(observing_bundle, "encoder.observation", precision=p) for p in ("fp32", "bf16")
    )
    error = np.abs(fp32.run(given)[0] - bf16.run(given)[0]).max()
    assert 0 < error < 0.05
    assert bf16.describe()["precision"] == "bf16"


def test_threads_get_their_own_values(reading_bundle):
    opened = part(reading_bundle, "encoder.text", threads=2)
    tokens = [np.full((1, 6), k, np.int64) for k in range(8)]
    want = [opened.run({"tokens": t})[0] for t in tokens]
    wrong = []

    def many(k):
        found = [opened.run({"tokens": tokens[k]})[0] for _ in range(20)]
        wrong.extend(k for one in found if not np.array_equal(one, want[k]))

    threads = [threading.Thread(target=many, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


FORKING = (
    CHILD
    + """
import numpy as np
engine = revstep.load(sys.argv[1], device="cpu", backend="openvino", threads=int(sys.argv[2]))
tokens = np.arange(6)
want = engine.encode(inputs={"tokens": tokens})
def work():
    got = engine.encode(inputs={"tokens": tokens})
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-5)
    engine.sample(1, inputs={"tokens": tokens}, steps=2)
print(child(work, seconds=60), child(work, leave=sys.exit, seconds=60))
work()
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_it_runs_in_a_forked_child(reading_bundle, threads):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(reading_bundle), threads],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0"]


def test_weights_in_a_file_of_their_own_are_found(observing_bundle, tmp_path):
    graph = Bundle.open(observing_bundle).part_graph("encoder.observation", "fp32")
    model, given = onnx.load(graph), feeds(observing_bundle, "encoder.observation")
    other = tmp_path / "part.onnx"
    onnx.save_model(
        model, other, save_as_external_data=True, location="part.onnx.data", size_threshold=0
    )
    want = part(observing_bundle, "encoder.observation").run(given)[0]
    np.testing.assert_array_equal(OpenVinoPart(other, "it", NAMES).run(given)[0], want)


def test_a_graph_of_free_axes_is_compiled_as_it_is_called(reading_bundle, tmp_path):
    model = onnx.load(Bundle.open(reading_bundle).part_graph("decoder", "fp32"))
    for value in (*model.graph.input, *model.graph.output):
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}{axis}"
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "free.onnx")
    opened = OpenVinoPart(tmp_path / "free.onnx", "it", NAMES)
    for size in (4, 6):
        (image,) = opened.run({"latent": np.ones((2, 2, size, size), np.float32)})
        assert image.shape == (2, 3, 2 * size, 2 * size)


@pytest.mark.parametrize("key", KEYS)
def test_what_openvino_cannot_compile_runs_in_onnx_runtime_and_says_why(
    reading_bundle, monkeypatch, caplog, key
):
    plain = OpenVinoPart.__init__

    def refused(self, graph, who, names, **options):
        if graph.name.startswith(key):
            raise BackendError(f"OpenVINO can't compile {graph}: Mish")
        plain(self, graph, who, names, **options)

    monkeypatch.setattr(OpenVinoPart, "__init__", refused)
    engine = revstep.load(reading_bundle, device="cpu", backend="openvino")
    found = {k: v["backend"] for k, v in engine.describe()["parts"].items()}
    assert found == dict.fromkeys(KEYS, "openvino") | {key: "onnxruntime"}
    (said,) = [r.getMessage() for r in caplog.records if "Mish" in r.getMessage()]
    assert "runs in ONNX Runtime on the CPU: OpenVINO can't compile" in said
