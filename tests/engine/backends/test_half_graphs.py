"""Sessions of half graphs on a CPU leave out the fusion that ONNX Runtime 1.32 does not survive."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from revstep.engine.backends.onnx_cpu import onnx_session  # noqa: E402


def doubled(path):
    half, helper = onnx.TensorProto.FLOAT16, onnx.helper
    value = [helper.make_tensor_value_info(name, half, ["batch", 4]) for name in ("x", "out")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["out"])], "two", *zip(value))
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_only_half_graphs_are_loaded_without_the_fusion(precision, tmp_path, monkeypatch):
    given = {}
    make = ort.InferenceSession

    def recorded(*args, **options):
        given.update(options)
        return make(*args, **options)

    monkeypatch.setattr(ort, "InferenceSession", recorded)
    session = onnx_session(doubled(tmp_path / f"denoiser.{precision}.onnx"), threads=1)
    assert ("disabled_optimizers" in given) == (precision == "fp16")
    out = session.run(None, {"x": np.ones((3, 4), np.float16)})[0]
    np.testing.assert_array_equal(out, np.full((3, 4), 2, np.float16))
