"""The exporter's known defects, fixed: each graph is checked by ONNX and run by its reference."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from revstep.export.graph.passes import (
    drop_settled_choices,
    join_one_type,
    squeeze_only_ones,
    unique_names,
)

TYPES = {
    "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "f32": TensorProto.FLOAT,
    "f64": TensorProto.DOUBLE, "i64": TensorProto.INT64,
}  # fmt: skip


def model(nodes, inputs, output, constants=()):
    """A model of opset 20; inputs and output are (name, type, shape)."""
    values = [helper.make_tensor_value_info(n, TYPES[t], s) for n, t, s in (*inputs, output)]
    weights = [onnx.numpy_helper.from_array(np.array(v), n) for n, v in constants]
    graph = helper.make_graph(nodes, "g", values[:-1], values[-1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def fixed(proto, apply):
    changed = ir.from_proto(proto)
    apply(changed)
    found = ir.to_proto(changed)
    onnx.checker.check_model(found, full_check=True)
    return found


def squeeze(axes, shape, out):
    node = helper.make_node("Squeeze", ["x", "axes"], ["y"], name="n")
    return model([node], [("x", "f32", shape)], ("y", "f32", out), [("axes", axes)])


@pytest.mark.parametrize(
    ("axes", "shape", "out"),
    [
        ([1], ["batch", 3], ["batch", 3]),  # torch: x.squeeze(1) of a longer axis does nothing
        ([-1], ["batch", 1, 3], ["batch", 1, 3]),
        ([1, 2], ["batch", 3, 1], ["batch", 3]),
        ([1, -1], ["batch", 1, 1], ["batch"]),
    ],
)
def test_a_squeeze_leaves_axes_that_are_longer_than_one(axes, shape, out):
    found = fixed(squeeze(axes, shape, out), squeeze_only_ones)
    x = np.arange(2 * np.prod(shape[1:]), dtype=np.float32).reshape(2, *shape[1:])
    (got,) = ReferenceEvaluator(found).run(None, {"x": x})
    assert got.shape == (2, *out[1:])
    assert np.array_equal(got.reshape(-1), x.reshape(-1))


def test_the_full_check_refuses_such_a_squeeze():
    with pytest.raises(onnx.shape_inference.InferenceError, match="must be 1 instead of 3"):
        onnx.checker.check_model(squeeze([1], ["batch", 3], ["batch", 3]), full_check=True)


def test_a_squeeze_of_an_axis_of_unknown_length_is_left_alone():
    proto = squeeze([1], ["batch", "n"], ["batch"])
    assert fixed(proto, squeeze_only_ones).graph.node[0].op_type == "Squeeze"


@pytest.mark.parametrize(
    ("kinds", "to"),
    [
        (("f16", "f32"), "f32"),
        (("f32", "f16", "f32"), "f32"),
        (("f16", "bf16"), "f32"),
        (("f32", "f64"), "f64"),
        (("i64", "f16"), "f16"),
    ],
)
def test_a_concat_of_several_types_promotes_as_torch_does(kinds, to):
    names = [f"x{n}" for n in range(len(kinds))]
    node = helper.make_node("Concat", names, ["y"], name="n", axis=0)
    inputs = [(name, kind, ["batch", 2]) for name, kind in zip(names, kinds, strict=True)]
    proto = model([node], inputs, ("y", to, ["rows", 2]))
    with pytest.raises((onnx.shape_inference.InferenceError, onnx.checker.ValidationError)):
        onnx.checker.check_model(proto, full_check=True)
    found = fixed(proto, join_one_type)
    casts = [n for n in found.graph.node if n.op_type == "Cast"]
    assert len(casts) == sum(kind != to for kind in kinds)
    assert {c.attribute[0].i for c in casts} == {TYPES[to]}


def test_a_concat_of_one_type_is_left_alone():
    node = helper.make_node("Concat", ["a", "b"], ["y"], axis=0)
    inputs = [("a", "f16", [1, 2]), ("b", "f16", [1, 2])]
    proto = model([node], inputs, ("y", "f16", [2, 2]))
    assert [n.op_type for n in fixed(proto, join_one_type).graph.node] == ["Concat"]


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        ([[True], [True]], "Identity"),
        ([[False], [False]], "Identity"),
        ([[True], [False]], "Where"),
        ([[[True]]], "Where"),  # adds an axis
    ],
)
def test_a_choice_that_a_constant_settles_is_dropped(condition, kind):
    node = helper.make_node("Where", ["on", "a", "b"], ["y"])
    shape = [2, 3] if np.ndim(condition) == 2 else [1, 2, 3]
    inputs = [("a", "f32", [2, 3]), ("b", "f32", [2, 3])]
    proto = model([node], inputs, ("y", "f32", shape), [("on", condition)])
    a, b = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    found = fixed(proto, drop_settled_choices)
    assert [n.op_type for n in found.graph.node] == [kind]
    (got,) = ReferenceEvaluator(found).run(None, {"a": a, "b": b})
    np.testing.assert_array_equal(got, np.where(condition, a, b))


def test_inputs_keep_their_names_and_what_is_named_like_them_is_renamed():
    nodes = [helper.make_node("Cos", ["x"], ["c"]), helper.make_node("Add", ["c", "w"], ["y"])]
    proto = model(
        nodes,
        [("x", "f32", ["batch", 2]), ("taken", "f32", ["batch", 2]), ("out", "f32", [1])],
        ("y", "f32", ["batch", 2]),
        [("w", np.array([1.0, 2.0], np.float32))],
    )
    changed = ir.from_proto(proto)
    values = {v.name: v for n in changed.graph for v in (*n.inputs, *n.outputs)}
    values["c"].name = values["w"].name = "taken"  # as the exporter names them, after operators
    changed.graph.outputs[0].name = "out"
    unique_names(changed)
    found = ir.to_proto(changed)
    onnx.checker.check_model(found, full_check=True)
    assert [i.name for i in found.graph.input] == ["x", "taken", "out"]
    assert found.graph.output[0].name not in ("x", "taken", "out")
    x = np.ones((1, 2), np.float32)
    (got,) = ReferenceEvaluator(found).run(None, {"x": x, "taken": x, "out": x[0, :1]})
    np.testing.assert_allclose(got, np.cos(x) + np.array([1, 2]), rtol=1e-6)
