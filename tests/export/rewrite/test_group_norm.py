"""GroupNorm by means of channels, against the formula in float64."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.parser import parse_model
from rewritten import assert_same, kinds, rewritten

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BODY = """g = Reshape(x, groups)
    i = InstanceNormalization<epsilon = 0.001>(g, ones, zeros)
    s = Shape(x)
    r = Reshape(i, s)
    o = Mul(r, scale)"""


def model(groups, channels, height, width, body=BODY, **changed):
    places = f"float[N,{channels},{height},{width}]"
    proto = parse_model(f"{HEAD}g ({places} x) => ({places} o) {{\n{body}\n}}")
    weights = {
        "groups": np.array([0, groups, -1]), "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32), "scale": np.ones((channels, 1, 1), np.float32),
        **changed,
    }  # fmt: skip
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def right(x, groups):
    """The formula, in float64."""
    flat = x.astype(np.float64).reshape(len(x), groups, -1)
    centred = flat - flat.mean(2, keepdims=True)
    return [(centred / np.sqrt((centred**2).mean(2, keepdims=True) + 0.001)).reshape(x.shape)]


@FEW
@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6),
    st.sampled_from([1, 2, 5]),
)  # fmt: skip
def test_a_group_norm_is_the_same_by_means(tmp_path, groups, each, height, width, batch):
    before = model(groups, groups * each, height, width)
    after = rewritten(before, tmp_path, "group_norm_means")
    assert not {"Reshape", "InstanceNormalization", "Shape"} & set(kinds(after))
    x = np.random.default_rng(batch).normal(1, 2, (batch, groups * each, height, width))
    x = x.astype(np.float32)
    # a group of few elements may be nearly constant: its differences are rounding
    assert_same(before, after, {"x": x}, 2e-5, want=right(x, groups))


def test_a_large_mean_costs_no_more_than_before(tmp_path):
    before = model(2, 8, 8, 8)
    after = rewritten(before, tmp_path, "group_norm_means")
    x = np.random.default_rng(0).normal(1000, 1, (3, 8, 8, 8)).astype(np.float32)
    assert_same(before, after, {"x": x}, 1e-4, want=right(x, 2))


@pytest.mark.parametrize(
    "changed",
    [
        {"ones": np.full(2, 1.5, np.float32)},
        {"zeros": np.full(2, 0.5, np.float32)},
    ],
)
def test_another_instance_norm_is_left(changed, tmp_path):
    after = rewritten(model(2, 8, 4, 4, **changed), tmp_path, "group_norm_means", "constant_shapes")
    assert "InstanceNormalization" in kinds(after)


def test_a_value_that_is_read_inside_is_left(tmp_path):
    body = BODY.replace(
        "o = Mul(r, scale)", "b = ReduceMean(i)\n p = Mul(r, scale)\n o = Add(p, b)"
    )
    after = rewritten(model(2, 8, 4, 4, body), tmp_path, "group_norm_means", "constant_shapes")
    assert "InstanceNormalization" in kinds(after)


def test_three_axes_are_left(tmp_path):
    proto = parse_model(f"{HEAD}g (float[N,8,6] x) => (float[N,8,6] o) {{\n"
                        "g = Reshape(x, groups)\n i = InstanceNormalization(g, ones, zeros)\n"
                        "o = Reshape(i, back)\n}")  # fmt: skip
    for name, array in {
        "groups": np.array([0, 2, -1]), "ones": np.ones(2, np.float32),
        "zeros": np.zeros(2, np.float32), "back": np.array([0, 8, 6]),
    }.items():  # fmt: skip
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    assert rewritten(proto, tmp_path, "group_norm_means") is None
