"""Linear layers of one value, as one product."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.parser import parse_model
from rewritten import assert_same, kinds, rewritten

NAME = "joined_linear"
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WIDTHS = {"w0": (5, 4), "w1": (3, 4), "w2": (4, 4), "b0": (5,), "b1": (1,), "b2": (1, 4)}


def model(body, shapes=WIDTHS, kind="float"):
    outputs = ", ".join(f"{kind}[N,M{k}] o{k}" for k in range(9) if f"o{k} =" in body)
    proto = parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]>\n'
        f"g ({kind}[N,4] x) => ({outputs}) {{\n{body}\n}}"
    )
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        if name in body:
            array = rng.normal(0, 1, shape).astype("f2" if kind == "float16" else "f4")
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def rows(batch):
    return {"x": np.random.default_rng(batch).normal(0, 1, (batch, 4)).astype(np.float32)}


BIASES = {"none": None, "one": lambda n: (1,), "each": lambda n: (n,), "row": lambda n: (1, n)}
LAYER = st.tuples(st.integers(1, 7), st.booleans(), st.sampled_from(list(BIASES)))


@FEW
@given(st.lists(LAYER, min_size=2, max_size=5), st.sampled_from([1, 2, 5]))
def test_layers_of_one_value_are_one_product(tmp_path, layers, batch):
    lines, shapes = ["e = Neg(x)"], {}
    for k, (width, turned, bias) in enumerate(layers):
        shapes[f"w{k}"] = (width, 4) if turned else (4, width)
        inputs = f"e, w{k}"
        if BIASES[bias] is not None:
            shapes[f"b{k}"] = BIASES[bias](width)
            inputs += f", b{k}"
        lines.append(f"y{k} = Gemm<transB = {int(turned)}>({inputs})\n o{k} = Relu(y{k})")
    before = model("\n".join(lines), shapes)
    after = rewritten(before, tmp_path, NAME)
    assert kinds(after) == ["Neg", "Gemm", "Split", *["Relu"] * len(layers)]
    assert_same(before, after, rows(batch), 1e-5)  # of outputs that Relu leaves little of


def test_layers_that_do_not_follow_each_other_are_joined_at_the_first(tmp_path):
    before = model(
        "y0 = Gemm<transB = 1>(x, w0, b0)\n z = Relu(y0)\n y1 = Gemm<transB = 1>(x, w1)\n"
        "s = ReduceSum(z)\n t = Mul(s, y1)\n o0 = Relu(z)\n o1 = Relu(t)"
    )
    after = rewritten(before, tmp_path, NAME)
    assert kinds(after)[:2] == ["Gemm", "Split"]
    assert len([i for i in after.graph.initializer if i.name.startswith("w")]) == 0
    assert_same(before, after, rows(2), 1e-6)


@pytest.mark.parametrize(
    "second",
    [
        "z = Neg(x)\n y1 = Gemm<transB = 1>(z, w1)",  # of another value
        "y1 = Gemm<transB = 1, alpha = 2.0>(x, w1)",
        "y1 = Gemm<transB = 1, beta = 2.0>(x, w1, b1)",
        "v = Abs(x)\n t = Transpose(v)\n y1 = Gemm(x, t)",  # computed weights
        "y1 = MatMul(x, w2)",
    ],
)
def test_another_product_is_left(second, tmp_path):
    body = f"y0 = Gemm<transB = 1>(x, w0, b0)\n o0 = Relu(y0)\n {second}\n o1 = Relu(y1)"
    assert rewritten(model(body), tmp_path, NAME) is None


def test_a_layer_that_is_given_out_keeps_its_node(tmp_path):
    body = "y0 = Gemm<transB = 1>(x, w0, b0)\n o0 = Relu(y0)\n o1 = Gemm<transB = 1>(x, w1)"
    assert rewritten(model(body), tmp_path, NAME) is None


def test_float16_is_left(tmp_path):
    body = "y0 = Gemm<transB = 1>(x, w0)\n o0 = Relu(y0)\n y1 = Gemm(x, w2)\n o1 = Relu(y1)"
    assert rewritten(model(body, kind="float16"), tmp_path, NAME) is None
