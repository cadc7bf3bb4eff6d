"""Which nodes stay float32, and why, on graphs of a few nodes."""

import numpy as np
import onnx_ir as ir
import pytest
from graphs import graph

from revstep.export.precision.nodes import REASONS, keep, low_ports, products

F16, BF16 = ir.DataType.FLOAT16, ir.DataType.BFLOAT16
W = np.eye(4, dtype=np.float32)
ONE = np.array([1], np.int64)


def reasons(nodes, low=F16, ranges=None, **weights):
    """Name of each kept node (``Op_number``) -> reason; a product before and after the nodes."""
    model = graph(f"a = MatMul (x, w)\n{nodes}\nout = MatMul (b, w)", w=W, one=ONE, **weights)
    kept = keep(model.graph, ranges or {}, low, "x")
    assert set(kept.values()) <= set(REASONS)
    return {node.name: reason for node, reason in kept.items()}


def test_products_and_the_elementwise_between_turn():
    assert reasons("c = Tanh (a)\n d = Mul (c, a)\n b = Transpose <perm = [0, 1]> (d)") == {}


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        ("b = Softmax (a)", {"Softmax_1": "softmax"}),
        ("b = LayerNormalization (a, scale)", {"LayerNormalization_1": "norm"}),
        ("m = ReduceMean (a, one)\n b = Sub (a, m)", {"ReduceMean_1": "norm"}),
        ("b = Sin (a)", {"Sin_1": "periodic"}),
    ],
)
def test_norms_softmax_and_sines_of_the_state_stay(nodes, kept):
    assert reasons(nodes, scale=np.ones(4, np.float32)) == kept


def test_a_root_mean_square_norm_stays_as_a_whole_but_for_its_scale():
    found = reasons(
        "p = Pow (a, two)\n m = ReduceMean (p, one)\n e = Add (m, eps)\n s = Sqrt (e)\n"
        "r = Reciprocal (s)\n n = Mul (a, r)\n b = Mul (n, scale)",
        two=2.0, eps=1e-6, scale=np.ones(4, np.float32),
    )  # fmt: skip
    assert set(found) == {"Pow_1", "ReduceMean_2", "Add_3", "Sqrt_4", "Reciprocal_5"}


def test_what_lies_between_float32_nodes_stays_too():
    found = reasons("c = Softmax (a)\n d = Neg (c)\n e = Abs (d)\n b = Softmax (e)")
    assert found == {
        "Softmax_1": "softmax", "Neg_2": "between", "Abs_3": "between", "Softmax_4": "softmax",
    }  # fmt: skip


@pytest.mark.parametrize(("largest", "stays"), [(8000.0, False), (8300.0, True), (1e30, True)])
def test_a_value_near_fp16s_end_keeps_its_readers_and_its_maker(largest, stays):
    found = reasons("c = Tanh (a)\n b = Neg (c)", ranges={"c": largest})
    assert found == ({"Tanh_1": "range", "Neg_2": "range"} if stays else {})
    assert reasons("c = Tanh (a)\n b = Neg (c)", BF16, {"c": largest}) == {}


@pytest.mark.parametrize(
    ("value", "low", "stays"),
    [
        (1e-8, F16, True),  # an epsilon, which fp16 makes 0
        (-3.4e38, F16, True),  # a mask's
        (-3.4e38, BF16, True),
        (-np.inf, F16, False),
        (0.0, F16, False),
        (1e-8, BF16, False),
        ([1e-8, 1.0, 2.0, 3.0], F16, False),  # a weight may hold a small number
        ([1.0, 7e4, 2.0, 3.0], F16, True),
    ],
)
def test_a_constant_out_of_range_keeps_its_node(value, low, stays):
    assert reasons("b = Add (a, k)", low, k=value) == ({"Add_1": "range"} if stays else {})


def test_an_operator_without_the_type_stays():
    model = graph("a = MatMul (x, w)\n b = Mish (a)\n out = MatMul (b, w)", w=W)
    mish = model.graph[1]
    assert low_ports(mish, F16) == ([0], [0])
    assert low_ports(mish, BF16) == ([], [])
    assert keep(model.graph, {}, BF16, "x")[mish] == "unsupported"


def test_transposed_convolutions_turn_in_fp16_alone():
    model = graph(
        "a = Reshape (x, wide)\n b = ConvTranspose (a, k)\n out = Reshape (b, back)",
        wide=np.array([-1, 1, 4]), back=np.array([-1, 4]), k=np.ones((1, 1, 1), np.float32),
    )  # fmt: skip
    assert low_ports(model.graph[1], F16) == ([0, 1], [0])
    assert low_ports(model.graph[1], BF16) == ([], [])


def test_inputs_of_another_type_variable_stay():
    model = graph(
        "a = Reshape (x, shape)\n b = Resize <mode = \"nearest\"> (a, , scales)\n"
        "c = Reshape (b, back)\n out = Slice (c, zero, four, one)",
        shape=np.array([-1, 1, 4, 1]), back=np.array([-1, 8]), scales=[1, 1, 2, 1], one=ONE,
        zero=np.array([0]), four=np.array([4]),
    )  # fmt: skip
    assert low_ports(model.graph[1], F16) == ([0], [0])


def embedding(nodes, after="out = MatMul (h, w)"):
    model = graph(
        f"u = Unsqueeze (t, one)\n v = Mul (u, rates)\n s = Sin (v)\n{nodes}\n"
        f"a = MatMul (x, w)\n h = Add (a, e)\n{after}",
        w=W, one=ONE, rates=np.ones((1, 4), np.float32), zero=np.zeros(4, np.float32),
    )  # fmt: skip
    kept = keep(model.graph, {}, F16, "x")
    return {node.name for node, reason in kept.items() if reason == "embedding"}, model, kept


def test_what_the_time_alone_makes_stays_float32():
    found, _, _ = embedding("e = Gemm (s, w, zero)")
    assert found == {"Unsqueeze_0", "Mul_1", "Sin_2", "Gemm_3"}


def test_a_blocks_own_projection_of_an_embedding_turns():
    found, _, kept = embedding("g = Gemm (s, w, zero)\n r = Relu (g)\n e = Gemm (r, w, zero)")
    assert found == {"Unsqueeze_0", "Mul_1", "Sin_2", "Gemm_3", "Relu_4"}
    assert "Gemm_5" not in {n.name for n in kept}


def test_products_over_a_conditions_tokens_turn_and_what_follows_is_ordinary():
    model = graph(
        "k = MatMul (c, w)\n r = Relu (k)\n m = MatMul (r, w)\n"
        "p = ReduceMax <keepdims = 0> (m, one)\n"
        "a = MatMul (x, w)\n h = Add (a, p)\n out = MatMul (h, w)",
        "float[N,4] x, float[N] t, float[N,7,4] c", w=W, one=ONE,
    )  # fmt: skip
    assert keep(model.graph, {}, F16, "x") == {}


def test_a_shape_of_the_state_is_not_its_value():
    model = graph(
        "n = Shape (x)\n ones = ConstantOfShape (n)\n u = Unsqueeze (t, one)\n e = Mul (ones, u)\n"
        "a = MatMul (x, w)\n h = Add (a, e)\n out = MatMul (h, w)",
        w=W, one=ONE,
    )  # fmt: skip
    kept = keep(model.graph, {}, F16, "x")
    assert {n.name: why for n, why in kept.items()} == {
        "Unsqueeze_2": "embedding", "Mul_3": "embedding",
    }  # fmt: skip


def test_elementwise_nodes_beside_the_input_and_the_output_stay():
    model = graph(
        "u = Unsqueeze (t, one)\n y = Mul (x, u)\n a = MatMul (y, w)\n b = Tanh (a)\n"
        "c = MatMul (b, w)\n skip = Mul (x, half)\n out = Add (skip, c)",
        w=W, one=ONE, half=0.5,
    )  # fmt: skip
    kept = keep(model.graph, {}, F16, "x")
    assert {n.name: why for n, why in kept.items()} == {
        "Unsqueeze_0": "embedding", "Mul_1": "edge", "Mul_5": "edge", "Add_6": "edge",
    }  # fmt: skip
    assert [n.name for n in products(model.graph, kept)] == ["MatMul_2", "MatMul_4"]
