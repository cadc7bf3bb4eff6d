"""1-D convolutions as 2-D ones: every attribute, and what lies between two of them."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx.parser import parse_model
from rewritten import assert_same, kinds, rewritten

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
RNG = np.random.default_rng(0)
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def model(body, inputs="float[N,6,16] x", output="float[N,M,L] o", **weights):
    """A model; weights are shapes, of which random numbers come, or arrays."""
    proto = parse_model(f"{HEAD}g ({inputs}) => ({output}) {{\n{body}\n}}")
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else RNG.normal(0, 0.3, value)
        kind = np.int64 if array.dtype == np.int64 else np.float32
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(kind), name))
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    sizes = inferred.graph.output[0].type.tensor_type.shape
    del inferred.graph.value_info[:]
    assert len(sizes.dim) > 0
    return inferred


def feeds(batch, *shape):
    return {"x": np.random.default_rng(batch).normal(size=(batch, *shape)).astype(np.float32)}


def check(before, tmp_path, shape=(6, 16), batches=(1, 2, 5)):
    after = rewritten(before, tmp_path, "conv_2d")
    for batch in batches:
        assert_same(before, after, feeds(batch, *shape))
    return after


@st.composite
def convolutions(draw, transposed=False):
    """Attributes and shapes of a valid convolution of (N, 6, 16)."""
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    dilation, group = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 6]))
    pads = [draw(st.integers(0, 3)), draw(st.integers(0, 3))]
    attributes = [f"strides = [{stride}]", f"dilations = [{dilation}]", f"group = {group}"]
    if draw(st.booleans()):
        attributes.append(f"kernel_shape = [{kernel}]")
    auto = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET":
        attributes.append(f"pads = [{pads[0]}, {pads[1]}]")
    elif dilation > 1:  # where runtimes differ in what is the same
        auto = "VALID"
    attributes.append(f'auto_pad = "{auto}"')
    each = draw(st.integers(1, 3))
    if transposed:
        if auto == "NOTSET":
            attributes.append(f"output_padding = [{draw(st.integers(0, stride - 1))}]")
        return attributes, (6, each, kernel), each * group
    return attributes, (each * group, 6 // group, kernel), each * group


@FEW
@given(convolutions(), st.booleans())
def test_a_convolution_is_the_same_with_a_height(tmp_path, case, bias):
    attributes, weights, channels = case
    body = f"o = Conv<{', '.join(attributes)}>(x, w{', b' if bias else ''})"
    extra = {"b": (channels,)} if bias else {}
    after = check(model(body, w=weights, **extra), tmp_path, batches=(2,))
    assert kinds(after) == ["Unsqueeze", "Conv", "Squeeze"]
    assert len(after.graph.initializer) == 2 + bias  # weights, axes


@FEW
@given(convolutions(transposed=True), st.booleans())
def test_a_transposed_convolution_is_the_same_with_a_height(tmp_path, case, bias):
    attributes, weights, channels = case
    attributes = [a for a in attributes if "SAME" not in a]
    body = f"o = ConvTranspose<{', '.join(attributes)}>(x, w{', b' if bias else ''})"
    extra = {"b": (channels,)} if bias else {}
    try:
        before = model(body, w=weights, **extra)
    except onnx.shape_inference.InferenceError:
        assume(False)  # pads that leave nothing
    after = rewritten(before, tmp_path, "conv_2d")
    assert kinds(after) == ["Unsqueeze", "ConvTranspose", "Squeeze"]
    given = feeds(2, 6, 16)
    # ONNX's own evaluator does not do groups of this operator
    want = torch_transposed(before, given["x"])
    assert_same(before, after, given, want=[want])


def torch_transposed(proto, x):
    """The one ConvTranspose of a model, by PyTorch in float64."""
    (node,) = proto.graph.node
    named = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    tensors = [onnx.numpy_helper.to_array(i).astype(np.float64) for i in proto.graph.initializer]
    begin, end = named.get("pads", [0, 0])
    (padding,) = named.get("output_padding", [0])
    whole = torch.nn.functional.conv_transpose1d(
        torch.from_numpy(x.astype(np.float64)), *map(torch.from_numpy, tensors),
        stride=named["strides"], dilation=named["dilations"], groups=named["group"],
    )  # fmt: skip
    longer = torch.nn.functional.pad(whole, (0, padding))
    if padding and len(tensors) == 2:  # what is added there is the bias
        longer[:, :, -padding:] = torch.from_numpy(tensors[1])[:, None]
    return longer[:, :, begin : longer.shape[2] - end].numpy()


def test_an_output_shape_of_a_transposed_convolution_is_kept(tmp_path):
    given = "o = ConvTranspose<strides = [2], output_shape = [33]>(x, w)"
    check(model(given, w=(6, 4, 3)), tmp_path)


JOINED = {
    "an activation": "h = Relu(a)",
    "SiLU": "s = Sigmoid(a)\n h = Mul(a, s)",
    "a residual": "h = Add(a, x)",
    "two branches": "b = Conv<pads = [1, 1]>(x, v)\n h = Add(a, b)",
    "channels of two": "h0 = Concat<axis = 1>(a, x)\n h = Conv(h0, wide)",
    "places of two": "h0 = Concat<axis = -1>(a, x)\n h = Conv<strides = [2]>(h0, v)",
    "reflected ends": 'h0 = Pad<mode = "reflect">(a, pads)\n h = Conv(h0, v)',
    "constant ends": "h0 = Pad(a, pads, one)\n h = Conv(h0, v)",
    "upsampling": 'h0 = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric",'
    ' nearest_mode = "floor">(a, , twice)\n h = MaxPool<kernel_shape = [2], strides = [2]>(h0)',
    "a mean of two": "h = AveragePool<kernel_shape = [3], pads = [1, 1], strides = [2]>(a)",
}
APART = {  # what has no blocked form reads and gives three axes
    "Mish": "h = Mish(a)",
    "a number": "h = Mul(a, one)",
    "a scale by channel": "h = Mul(a, column)",
    "a scale by sample": "m = ReduceMean<keepdims = 1>(x, axis)\n h = Add(a, m)",
    "linear upsampling": 'h = Resize<mode = "linear">(a, , twice)',
    "attention's shape": "t = Transpose<perm = [0, 2, 1]>(a)\n f = Softmax(t)\n"
    "h = Transpose<perm = [0, 2, 1]>(f)",
    "a body of control flow": "flag = Constant<value = bool {1}>()\n h = If (flag) <then_branch ="
    " yes () => (float[N,6,16] y) { y = Neg(a) }, else_branch = no () => (float[N,6,16] z)"
    " { z = Abs(a) }>",
}
GROUP_NORM = """g = Reshape(a, groups)
    i = InstanceNormalization(g, ones2, zeros2)
    s = Shape(a)
    r = Reshape(i, s)
    m = Mul(r, column)
    h = Add(m, column)"""
WEIGHTS = {
    "w": (6, 6, 3), "v": (6, 6, 3), "wide": (6, 12, 3), "one": (), "column": (6, 1),
    "ones2": np.ones(2, np.float32), "zeros2": np.zeros(2, np.float32),
    "twice": np.float32([1, 1, 2]), "axis": np.array([2]), "groups": np.array([0, 2, -1]),
    "pads": np.array([0, 0, 2, 0, 0, 1]),
}  # fmt: skip


def between(body):
    """Two convolutions, and ``body`` from a to h between them."""
    nodes = f"a = Conv<pads = [1, 1]>(x, w)\n{body}\no = Conv<pads = [1, 1]>(h, v)"
    words = set(nodes.replace(",", " ").replace("(", " ").replace(")", " ").split())
    return model(nodes, **{k: v for k, v in WEIGHTS.items() if k in words})


@pytest.mark.parametrize("name", JOINED)
def test_no_axis_is_dropped_between_two_convolutions(name, tmp_path):
    after = check(between(JOINED[name]), tmp_path)
    assert (kinds(after).count("Unsqueeze"), kinds(after).count("Squeeze")) == (1, 1)


@pytest.mark.parametrize("name", APART)
def test_other_nodes_keep_three_axes(name, tmp_path):
    after = check(between(APART[name]), tmp_path)
    assert (kinds(after).count("Unsqueeze"), kinds(after).count("Squeeze")) == (2, 2)


def test_a_group_norm_reads_the_convolution_without_a_squeeze(tmp_path):
    after = check(between(GROUP_NORM), tmp_path)
    assert kinds(after) == [
        "Unsqueeze", "Conv", "Reshape", "InstanceNormalization", "Reshape", "Mul", "Add",
        "Unsqueeze", "Conv", "Squeeze",
    ]  # fmt: skip


def test_weights_that_are_computed_are_left(tmp_path):
    given = "n = Neg(w)\n o = Conv(x, n)"
    assert rewritten(model(given, w=(6, 6, 3)), tmp_path, "conv_2d") is None


def test_weights_that_are_inputs_are_left(tmp_path):
    given = model("o = Conv(x, w)", inputs="float[N,6,16] x, float[6,6,3] w")
    assert rewritten(given, tmp_path, "conv_2d") is None


def test_a_graph_of_2d_convolutions_is_left(tmp_path):
    given = model("o = Conv(x, w)", "float[N,6,8,8] x", "float[N,M,H,W] o", w=(4, 6, 3, 3))
    assert rewritten(given, tmp_path, "conv_2d") is None


def test_shared_weights_stay_one(tmp_path):
    given = "a = Conv<pads = [1, 1]>(x, w)\n o = Conv<pads = [1, 1]>(a, w)"
    after = check(model(given, w=(6, 6, 3)), tmp_path)
    assert sum(len(i.dims) == 4 for i in after.graph.initializer) == 1
