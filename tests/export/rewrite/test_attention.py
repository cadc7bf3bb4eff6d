"""Attention as one operator, against what PyTorch's exporter writes out."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.parser import parse_model
from rewritten import by_onnxruntime, error, in_float64, kinds, rewritten

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HEADS = """qh = Reshape(q, split)
    qt = Transpose<perm = [0, 2, 1, 3]>(qh)
    kh = Reshape(k, split_k)
    kt = Transpose<perm = [0, 2, 1, 3]>(kh)
    vh = Reshape(v, split_v)
    vt = Transpose<perm = [0, 2, 1, 3]>(vh)
"""
TURNED = {
    "a transpose": "kk = Transpose<perm = [0, 1, 3, 2]>(kt)\n",
    "the exporter's": "f = Reshape(kt, flat)\n r = Transpose<perm = [0, 2, 1]>(f)\n"
    " kk = Reshape(r, back)\n",
}
SCALED = {
    "both": "qs = Mul(qt, root)\n ks = Mul(kk, root)\n s = MatMul(qs, ks)\n",
    "the product": "m = MatMul(qt, kk)\n s = Mul(m, scale)\n",
    "divided": "m = MatMul(qt, kk)\n s = Div(m, root)\n",
    "not": "s = MatMul(qt, kk)\n",
}
END = """p = Softmax<axis = -1>(s)
    a = MatMul(p, vt)
    t = Transpose<perm = [0, 2, 1, 3]>(a)
    o = Reshape(t, join)
"""


READ = "u = Reshape(t, join)\n w = ReduceMean<keepdims = 0>({})\n o = Add(u, w)"


def model(body, heads=2, size=4, places=3, keys=5, value_size=4):
    q, k = f"float[N,{places},{heads * size}] q", f"float[N,{keys},{heads * size}] k"
    v = f"float[N,{keys},{heads * value_size}] v"
    out = f"float[N,{places},{heads * value_size}] o"
    proto = parse_model(f"{HEAD}g ({q}, {k}, {v}) => ({out}) {{\n{body}\n}}")
    weights = {
        "split": [0, places, heads, size], "split_k": [0, keys, heads, size],
        "split_v": [0, keys, heads, value_size], "flat": [-1, keys, size],
        "back": [-1, heads, size, keys], "join": [0, places, heads * value_size],
    }  # fmt: skip
    arrays = {name: np.array(value, np.int64) for name, value in weights.items()}
    arrays |= {"root": np.float32([0.8]), "scale": np.array(0.3, np.float32)}
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    for name, array in arrays.items():
        if name in words:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def feeds(proto, batch):
    rng = np.random.default_rng(batch)
    found = {}
    for value in proto.graph.input:
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        found[value.name] = rng.normal(0, 2, (batch, *sizes)).astype(np.float32)
    return found


def check(before, after):
    for batch in (1, 2, 5):
        given = feeds(before, batch)
        want = in_float64(before, given)[0]
        for run in (by_onnxruntime, in_float64):
            assert error(run(after, given)[0], want) < 2e-6


@FEW
@given(
    st.sampled_from(sorted(TURNED)), st.sampled_from(sorted(SCALED)), st.integers(1, 3),
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 6),
)  # fmt: skip
def test_attention_becomes_one_operator(tmp_path, turned, scaled, heads, size, places, keys):
    body = HEADS + TURNED[turned] + SCALED[scaled] + END
    before = model(body, heads, size, places, keys, value_size=size)
    after = rewritten(before, tmp_path, "attention")
    assert kinds(after) == ["Attention"]
    assert [o.version for o in after.opset_import if o.domain == ""] == [23]
    check(before, after)


def test_values_of_another_size_are_right(tmp_path):
    before = model(HEADS + TURNED["a transpose"] + SCALED["not"] + END, value_size=6)
    after = rewritten(before, tmp_path, "attention")
    assert kinds(after) == ["Attention"]
    check(before, after)


def test_heads_that_are_read_stay(tmp_path):
    end = END.replace("o = Reshape(t, join)", READ.format("a"))
    before = model(HEADS + TURNED["a transpose"] + SCALED["both"] + end)
    after = rewritten(before, tmp_path, "attention")
    assert kinds(after).count("Attention") == 1
    assert kinds(after).count("Transpose") == 4
    check(before, after)


@pytest.mark.parametrize(
    "body",
    [
        # a mask
        HEADS + TURNED["a transpose"] + "m0 = MatMul(qt, kk)\n s = Add(m0, scale)\n" + END,
        # over another axis
        HEADS + TURNED["a transpose"] + SCALED["not"] + END.replace("axis = -1", "axis = 2"),
        # the scores are read too
        HEADS + TURNED["a transpose"] + SCALED["not"]
        + END.replace("o = Reshape(t, join)", READ.format("s")),
    ],
)  # fmt: skip
def test_what_is_not_plain_attention_is_left(body, tmp_path):
    assert rewritten(model(body), tmp_path, "attention") is None


def test_an_opset_that_can_not_be_raised_is_left(tmp_path, monkeypatch):
    import onnxscript.version_converter as converter

    def refuse(model, version):
        model.graph.opset_imports[""] = version  # half way
        raise ValueError("no adapter")

    monkeypatch.setattr(converter, "convert_version", refuse)
    body = HEADS + TURNED["a transpose"] + SCALED["not"] + END
    assert rewritten(model(body), tmp_path, "attention") is None
