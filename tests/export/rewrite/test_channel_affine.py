"""A channel's scale and shift as one BatchNormalization, exactly."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.parser import parse_model
from rewritten import assert_same, by_onnxruntime, kinds, rewritten

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
NAME = "channel_affine"
FEW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def model(channels, places, body, scale=None, shift=None, kind="float"):
    sizes = ",".join(["N", str(channels), *map(str, places)])
    proto = parse_model(f"{HEAD}g ({kind}[{sizes}] x) => ({kind}[{sizes}] o) {{\n{body}\n}}")
    rng, alone = np.random.default_rng(channels), (channels, *[1] * len(places))
    dtype = np.float16 if kind == "float16" else np.float32
    for name, array in (("scale", scale), ("shift", shift)):
        made = rng.normal(1, 1, alone) if array is None else array
        proto.graph.initializer.append(onnx.numpy_helper.from_array(made.astype(dtype), name))
    return proto


def values(channels, places, batch):
    return np.random.default_rng(batch).normal(0, 3, (batch, channels, *places)).astype(np.float32)


@FEW
@given(
    st.integers(1, 9), st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from(["Mul(x, scale)", "Mul(scale, x)"]),
    st.sampled_from(["Add(m, shift)", "Add(shift, m)"]),
    st.booleans(), st.sampled_from([1, 2, 5]),
)  # fmt: skip
def test_scale_and_shift_are_one_operator(tmp_path, channels, places, mul, add, wide, batch):
    alone = (1, channels, *[1] * len(places)) if wide else None
    given_ = [None if alone is None else np.linspace(-2, 3, channels).reshape(alone)] * 2
    before = model(channels, places, f"m = {mul}\n o = {add}", *given_)
    after = rewritten(before, tmp_path, NAME)
    assert kinds(after) == ["BatchNormalization"]
    assert_same(before, after, {"x": values(channels, places, batch)}, 4e-7)


def test_equal_channels_and_places_are_told_apart(tmp_path):
    places = np.arange(4.0).reshape(1, 4)  # along the last axis, not by channel
    body = "m = Mul(x, scale)\n o = Add(m, shift)"
    assert rewritten(model(4, (4,), body, places), tmp_path, NAME) is None
    assert rewritten(model(4, (4,), body, None, places), tmp_path, NAME) is None


def test_as_many_rows_as_channels_are_told_apart(tmp_path):
    rows = np.arange(4.0).reshape(4, 1, 1)
    before = model(4, (5,), "m = Mul(x, scale)\n o = Add(m, shift)", rows, rows)
    for value in (*before.graph.input, *before.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    assert rewritten(before, tmp_path, NAME) is None


@pytest.mark.parametrize(
    "body",
    [
        "o = Mul(x, scale)",
        "m = Add(x, scale)\n o = Add(m, shift)",
        "m = Mul(x, scale)\n a = Add(m, shift)\n o = Mul(a, m)",  # the product is read elsewhere
        "m = Mul(x, x)\n o = Add(m, shift)",
    ],
)
def test_what_is_not_a_scale_and_a_shift_is_left(body, tmp_path):
    assert rewritten(model(3, (4,), body), tmp_path, NAME) is None


def test_one_number_for_all_is_left(tmp_path):
    one = np.ones((1, 1))
    body = "m = Mul(x, scale)\n o = Add(m, shift)"
    assert rewritten(model(3, (4,), body, one, one), tmp_path, NAME) is None


def test_a_convolutions_scale_is_left_to_the_runtime(tmp_path):
    body = "c = Conv(x, w)\n m = Mul(c, scale)\n o = Add(m, shift)"
    proto = model(3, (4,), body)
    weights = np.ones((3, 3, 1), np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    assert rewritten(proto, tmp_path, NAME) is None


def test_float16_is_left(tmp_path):
    body = "m = Mul(x, scale)\n o = Add(m, shift)"
    assert rewritten(model(3, (4,), body, kind="float16"), tmp_path, NAME) is None


def test_nan_and_infinity_are_as_before(tmp_path):
    before = model(2, (3,), "m = Mul(x, scale)\n o = Add(m, shift)")
    after = rewritten(before, tmp_path, NAME)
    x = np.float32([[[np.nan, 1, 2], [np.inf, -np.inf, 3e38]]])
    np.testing.assert_array_equal(
        by_onnxruntime(after, {"x": x})[0], by_onnxruntime(before, {"x": x})[0]
    )
