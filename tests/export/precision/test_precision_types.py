"""Rewritten graphs: types that agree, casts where types meet, and the same numbers."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from graphs import graph

from revstep.export.precision.nodes import keep
from revstep.export.precision.ranges import add_ranges
from revstep.export.precision.types import emulate, reduce_types, save_graph

F16, BF16 = ir.DataType.FLOAT16, ir.DataType.BFLOAT16
NUMPY = {F16: np.float16, BF16: ml_dtypes.bfloat16}
RNG = np.random.default_rng(0)
W, V = RNG.standard_normal((2, 4, 4)).astype(np.float32)
X = RNG.standard_normal((3, 4)).astype(np.float32)
FEEDS = {"x": X, "t": np.array([0, 3, 999], np.float32)}
NODES = "a = MatMul (x, w)\n b = Softmax (a)\n c = MatMul (b, v)\n out = MatMul (c, w)"


def reduced(low=F16, nodes=NODES, **weights):
    model = graph(nodes, w=W, v=V, **weights)
    turned = reduce_types(model.graph, keep(model.graph, {}, low, "x"), low)
    return model, turned


def run(model, feeds=None):
    proto = ir.serde.serialize_model(model)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds or FEEDS)


def checked(model):
    proto = ir.serde.serialize_model(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def rounded(array, low):
    return np.asarray(array, np.float32).astype(NUMPY[low]).astype(np.float32)


def test_types_agree_and_casts_stand_where_they_meet():
    model, turned = reduced()
    checked(model)
    ops = [n.op_type for n in model.graph]
    assert ops == ["Cast", "MatMul", "Cast", "Softmax", "Cast", "MatMul", "MatMul", "Cast"]
    assert turned == 3
    assert [v.name for v in model.graph.outputs] == ["out"]


def test_the_same_graph_gives_the_same_bytes():
    files = {ir.serde.serialize_model(reduced()[0]).SerializeToString() for _ in range(5)}
    assert len(files) == 1


def test_a_weight_of_both_types_is_kept_in_both():
    nodes = (
        "a = MatMul (x, w)\n b = LayerNormalization (a, k)\n c = Mul (b, k)\n out = MatMul (c, w)"
    )
    model, _ = reduced(nodes=nodes, k=np.arange(1, 5, dtype=np.float32))
    checked(model)
    kinds = {name: v.dtype for name, v in model.graph.initializers.items()}
    assert kinds["k"] == ir.DataType.FLOAT
    assert kinds["k/float16"] == F16
    assert kinds["w"] == F16


def test_an_input_that_is_the_output_too_stays_float32():
    model, _ = reduced(nodes="a = MatMul (x, w)\n out = Identity (x)")
    checked(model)
    np.testing.assert_array_equal(run(model)[0], X)


@pytest.mark.parametrize("low", [F16, BF16])
def test_emulation_rounds_every_16_bit_value_and_sums_in_float32(low):
    model, _ = reduced(low, "a = MatMul (x, w)\n b = Tanh (a)\n out = MatMul (b, v)")
    emulate(model.graph, low)
    checked(model)
    inner = rounded(np.tanh(rounded(rounded(X, low) @ rounded(W, low), low)), low)
    want = rounded(inner @ rounded(V, low), low)
    np.testing.assert_allclose(run(model)[0], want, rtol=2e-3 if low == F16 else 1e-2)
    assert np.mean(run(model)[0] == want) > 0.8  # but for sums that lie between two numbers


def test_the_emulation_is_near_what_onnx_runtime_computes_in_fp16():
    model, _ = reduced()
    got = run(model)[0]
    emulate(model.graph, F16)
    np.testing.assert_allclose(run(model)[0], got, atol=4e-3)


def test_shapes_are_read_without_a_cast():
    nodes = (
        "a = MatMul (x, w)\n b = Softmax (a)\n n = Shape (a)\n m = Shape (b)\n k = Add (n, m)\n"
        "h = Div (k, two)\n c = Reshape (b, h)\n out = MatMul (c, w)"
    )
    model, _ = reduced(nodes=nodes, two=np.array([2, 2]))
    checked(model)
    assert [n.op_type for n in model.graph].count("Cast") == 4  # x, softmax's two sides, out


def test_a_file_has_its_weights_beside_it_where_they_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr("revstep.export.precision.types.INLINE", 100)
    model, _ = reduced(v2=np.zeros((64, 64), np.float32))
    save_graph(model, tmp_path / "g.onnx")
    assert (tmp_path / "g.onnx.data").stat().st_size >= 64 * 64 * 4
    onnx.checker.check_model(str(tmp_path / "g.onnx"), full_check=True)


def test_ranges_are_the_largest_finite_values_of_each_tensor():
    model = graph(
        "a = Mul (x, k)\n b = Add (a, mask)\n out = Neg (b)", k=-10.0, mask=[0, 0, 0, -np.inf]
    )
    names = add_ranges(model.graph)
    checked(model)
    found = dict(zip(names, run(model)[1], strict=True))
    assert found["x"] == np.abs(X).max()
    assert found["t"] == 999.0
    np.testing.assert_allclose(found["a"], np.abs(X).max() * 10)
    np.testing.assert_allclose(found["b"], np.abs(X[:, :3]).max() * 10)
