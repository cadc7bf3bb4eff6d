"""Operands written out along short axes: the same numbers, bit by bit."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.parser import parse_model
from rewritten import assert_same, by_onnxruntime, kinds, rewritten

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def model(body, places, second="", **weights):
    more = f", float[{second}] y" if second else ""
    proto = parse_model(
        f"{HEAD}g (float[N,{places}] x{more}) => (float[N,{places}] o) {{\n{body}\n}}"
    )
    for name, shape in weights.items():
        array = np.random.default_rng(0).uniform(0.5, 2, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def feeds(batch, *shapes):
    rng = np.random.default_rng(batch)
    return {
        name: rng.uniform(0.5, 2, (batch, *shape)).astype(np.float32)
        for name, shape in zip("xy", shapes, strict=False)
    }


@FEW
@given(
    st.sampled_from(["Add", "Sub", "Mul", "Div"]), st.booleans(), st.integers(2, 5),
    st.integers(2, 20), st.booleans(),
)  # fmt: skip
def test_a_constant_by_channel_is_full(tmp_path, kind, turned, channels, length, three):
    shape = (1, channels, 1) if three else (channels, 1)
    order = "c, x" if turned else "x, c"
    before = model(f"o = {kind}({order})", f"{channels},{length}", c=shape)
    after = rewritten(before, tmp_path, "full_operands")
    sizes = [tuple(i.dims) for i in after.graph.initializer]
    assert (channels, length) in sizes
    for batch in (1, 2, 5):
        given = feeds(batch, (channels, length))
        np.testing.assert_array_equal(by_onnxruntime(after, given), by_onnxruntime(before, given))
        assert_same(before, after, given, 3e-7)


@FEW
@given(
    st.sampled_from(["Add", "Sub", "Mul", "Div"]), st.booleans(), st.integers(1, 5),
    st.integers(2, 20),
)  # fmt: skip
def test_what_is_computed_by_channel_is_multiplied_by_ones(
    tmp_path, kind, turned, channels, length
):
    order = "y, x" if turned else "x, y"
    before = model(f"o = {kind}({order})", f"{channels},{length}", f"N,{channels},1")
    after = rewritten(before, tmp_path, "full_operands")
    assert kinds(after) == ["MatMul", kind]
    for batch in (1, 2, 5):
        given = feeds(batch, (channels, length), (channels, 1))
        np.testing.assert_array_equal(by_onnxruntime(after, given), by_onnxruntime(before, given))
        assert_same(before, after, given, 3e-7)


def test_images_of_few_pixels_have_full_constants(tmp_path):
    before = model("o = Mul(x, c)", "6,3,5", c=(6, 1, 1))
    after = rewritten(before, tmp_path, "full_operands")
    assert_same(before, after, feeds(2, (6, 3, 5)), 3e-7)


def test_nan_and_infinity_pass(tmp_path):
    before = model("o = Mul(x, y)", "3,4", "N,3,1")
    after = rewritten(before, tmp_path, "full_operands")
    given = feeds(1, (3, 4), (3, 1))
    given["y"][0, :, 0] = [np.nan, np.inf, -np.inf]
    np.testing.assert_array_equal(by_onnxruntime(after, given), by_onnxruntime(before, given))


@pytest.mark.parametrize(
    ("places", "shape"),
    [
        ("6,64", (6, 1)),  # long enough
        ("6,8,8", (6, 1, 1)),
        ("6,4", ()),  # a number
        ("6,4", (4,)),  # along the length
        ("6,4", (6, 4)),
        ("40000,4", (40000, 1)),  # too large in full
    ],
)
def test_what_is_not_slow_is_left(places, shape, tmp_path):
    before = model("o = Mul(x, c)", places, c=shape)
    assert rewritten(before, tmp_path, "full_operands") is None


def test_rows_that_meet_as_a_table_are_left(tmp_path):
    proto = parse_model(f"{HEAD}g (float[N,4,1] x, float[1,1,8] y) => (float[N,4,8] o) {{\n"
                        "o = Mul(x, y)\n}")  # fmt: skip
    assert rewritten(proto, tmp_path, "full_operands") is None
