"""Mish in closed form against float64, on all of float32's range."""

import numpy as np
import pytest
from onnx.parser import parse_model
from rewritten import assert_same, by_onnxruntime, in_float64, kinds, rewritten

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
FORMS = {
    "Mish": "o = Mish(x)",
    "product": "s = Softplus(x)\n t = Tanh(s)\n o = Mul(x, t)",
    "turned": "s = Softplus(x)\n t = Tanh(s)\n o = Mul(t, x)",
}


def model(body, kind="float"):
    return parse_model(f"{HEAD}g ({kind}[N,8] x) => ({kind}[N,8] o) {{\n{body}\n}}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_mish_is_written_by_one_exponential(form, batch, tmp_path):
    before = model(FORMS[form])
    after = rewritten(before, tmp_path, "mish")
    assert kinds(after) == ["Clip", "Exp", "Add", "Mul", "Add", "Div", "Mul"]
    x = np.random.default_rng(batch).normal(0, 3, (batch, 8)).astype(np.float32)
    assert_same(before, after, {"x": x}, 4e-7)


def test_every_value_is_within_rounding_of_float64(tmp_path):
    before = model(FORMS["Mish"])
    after = rewritten(before, tmp_path, "mish")
    x = np.concatenate(
        [
            np.linspace(-1e4, 1e4, 20000),
            np.linspace(-30, 30, 20000),
            [0.0, -0.0, 3e38, -3e38, 1e-38],
        ]
    )
    x = np.resize(x, (5001, 8)).astype(np.float32)
    got = by_onnxruntime(after, {"x": x})[0]
    wide = x.astype(np.float64)
    want = wide * np.tanh(np.logaddexp(0, wide))
    # each float has its own scale: the tails are as exact as the middle
    assert (np.abs(got - want) <= 4e-7 * np.abs(want) + 1e-37).all()


def test_nan_and_infinity_are_as_before(tmp_path):
    before = model(FORMS["Mish"])
    after = rewritten(before, tmp_path, "mish")
    x = np.float32([[np.nan, np.inf, -np.inf, 0, 1, -1, 88, -88]])
    for run in (by_onnxruntime, in_float64):
        with np.errstate(invalid="ignore"):  # -inf * 0
            got, want = run(after, {"x": x})[0], run(before, {"x": x})[0]
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_array_equal(np.isinf(got), np.isinf(want))


@pytest.mark.parametrize(
    "body",
    [
        "s = Softplus(x)\n t = Tanh(s)\n y = Neg(x)\n o = Mul(y, t)",  # of another value
        "s = Softplus(x)\n t = Tanh(s)\n y = Mul(x, t)\n o = Add(y, t)",  # the parts are read
        "s = Softplus(x)\n o = Mul(x, s)",
    ],
)
def test_what_is_not_mish_is_left(body, tmp_path):
    assert rewritten(model(body), tmp_path, "mish") is None


def test_float16_is_left(tmp_path):
    assert rewritten(model("o = Mish(x)", "float16"), tmp_path, "mish") is None
