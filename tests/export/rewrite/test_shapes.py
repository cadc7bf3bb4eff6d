"""Shapes that are known but for the batch, as constants."""

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model
from rewritten import assert_same, kinds, rewritten

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
COMPUTED = {
    "the shape of another value": ("y = Neg(x)\n s = Shape(y)\n f = Reshape(x, flat)\n"
                                   "o = Reshape(f, s)", [0, 4, 6]),
    "heads": ("s = Shape(x)\n b = Slice(s, zero, one)\n n = Concat<axis = 0>(b, parts)\n"
              "o = Reshape(x, n)", [0, 2, 2, 6]),
    "batch and heads together": ("s = Shape(x)\n b = Gather(s, zero)\n c = Mul(b, four)\n"
                                 "n = Concat<axis = 0>(c, six)\n o = Reshape(x, n)", [-1, 6]),
}  # fmt: skip
NUMBERS = {
    "flat": [0, -1], "zero": [0], "one": [1], "parts": [2, 2, 6], "four": [4], "six": [6],
}  # fmt: skip


def model(body, output="float[M] o"):
    proto = parse_model(f"{HEAD}g (float[batch,4,6] x) => ({output}) {{\n{body}\n}}")
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    for name, value in NUMBERS.items():
        if name in words:
            tensor = onnx.numpy_helper.from_array(np.array(value, np.int64), name)
            proto.graph.initializer.append(tensor)
    return proto


@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_shape_becomes_a_constant(name, tmp_path):
    body, shape = COMPUTED[name]
    names = ["rows" if shape[0] == -1 else "batch", *"abc"][: len(shape)]
    before = model(body, f"float[{', '.join(names)}] o")
    after = rewritten(before, tmp_path, "constant_shapes")
    assert "Shape" not in kinds(after)
    last = after.graph.node[-1]
    (found,) = [i for i in after.graph.initializer if i.name == last.input[1]]
    assert onnx.numpy_helper.to_array(found).tolist() == shape
    for batch in (1, 2, 5):
        x = np.random.default_rng(batch).normal(size=(batch, 4, 6)).astype(np.float32)
        assert_same(before, after, {"x": x}, 1e-7)


def test_two_unknown_sizes_are_left(tmp_path):
    proto = parse_model(
        f"{HEAD}g (float[batch,length] x, float[batch,length] z) => (float[a,b] o) {{\n"
        "s = Shape(z)\n o = Reshape(x, s)\n}"
    )
    assert rewritten(proto, tmp_path, "constant_shapes") is None


def test_a_shape_of_an_input_is_left(tmp_path):
    proto = parse_model(
        f"{HEAD}g (float[batch,4] x, int64[2] s) => (float[a,b] o) {{\n o = Reshape(x, s)\n}}"
    )
    assert rewritten(proto, tmp_path, "constant_shapes") is None
