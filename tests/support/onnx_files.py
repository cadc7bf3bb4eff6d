"""Small denoisers as ONNX files of many forms, and what they compute, in numpy."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KINDS = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE,
    "bfloat16": TensorProto.BFLOAT16, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8, "bool": TensorProto.BOOL,
}  # fmt: skip
CHANNELS, SIZE, CLASSES = 2, 4, 5


def weights(seed=1):
    """The network's weights, float32."""
    rng = np.random.default_rng(seed)
    return {
        "mix": (0.5 * rng.standard_normal((CHANNELS, CHANNELS))).astype(np.float32),
        "rates": np.array([[0.7], [1.3]], np.float32) * 0.01,
        "table": (0.3 * rng.standard_normal((CLASSES, CHANNELS))).astype(np.float32),
        "lift": (0.3 * rng.standard_normal((3, CHANNELS))).astype(np.float32),
    }


def network(x, t, label=None, context=None, second=None, seed=1):
    """What the files compute: x (B, 2, 4, 4), t (B,), label (B,), context (B, 3), float64."""
    if second is not None:
        t = np.asarray(t, np.float64) - 0.5 * np.asarray(second, np.float64)
    w = {k: v.astype(np.float64) for k, v in weights(seed).items()}
    x = np.asarray(x, np.float64)
    b = np.sin(np.asarray(t, np.float64).reshape(-1, 1) * w["rates"].T)  # (B, 2)
    if label is not None:
        b = b + w["table"][np.asarray(label).reshape(-1)]
    if context is not None:
        b = b + np.asarray(context, np.float64) @ w["lift"]
    return np.tanh(np.einsum("bchw,cd->bdhw", x, w["mix"]) + b[:, :, None, None]) - 0.1 * x


def write_denoiser(
    path,
    *,
    state="noisy",
    time="sigma",
    output="denoised",
    rows="B",
    time_shape=("B",),
    dtype="float32",
    state_dtype=None,
    time_dtype="float32",
    label=None,
    label_dtype="int64",
    label_shape=("B",),
    context=None,
    second=None,
    channels_last=False,
    opset=17,
    extra_output=False,
    twice=False,
    baked=False,
    mixes_rows=False,
    random=False,
    external=False,
    free_size=False,
    listed_weights=False,
):
    """Writes the network above as a file with these names, shapes, dtypes and opset.

    ``rows=None`` leaves the axis of rows out; ``dtype`` is that of the weights and of what is
    computed; ``baked`` fixes the rows, or the one time for all, inside.
    """
    size = ("H", "W") if free_size else (SIZE, SIZE)
    inner = (*size, CHANNELS) if channels_last else (CHANNELS, *size)
    shape = inner if rows is None else (rows, *inner)
    kind = KINDS[dtype]
    state_dtype = state_dtype or dtype
    inputs = [helper.make_tensor_value_info(state, KINDS[state_dtype], shape)]
    inputs.append(helper.make_tensor_value_info(time, KINDS[time_dtype], time_shape))
    nodes, constants = [], {}
    count = iter(range(1000))

    def add(op, *names, **attributes):
        out = f"inner_{next(count)}"
        nodes.append(helper.make_node(op, names, [out], name=f"{op}_{out}", **attributes))
        return out

    def constant(value, name=None):
        name = name or f"constant_{len(constants)}"
        constants[name] = value
        return name

    w = {k: v.astype(dtype) if dtype != "bfloat16" else v for k, v in weights().items()}
    x = state if state_dtype == dtype else add("Cast", state, to=kind)
    if rows is None:
        x = add("Reshape", x, constant(np.array([1, *inner])))
    if channels_last:
        x = add("Transpose", x, perm=[0, 3, 1, 2])
    t = time if time_dtype == dtype else add("Cast", time, to=kind)
    if second is not None:
        inputs.append(helper.make_tensor_value_info(second, kind, time_shape))
        half = add("Mul", second, constant(np.array(0.5, w["mix"].dtype)))
        t = add("Sub", t, half)
    t = add("Reshape", t, constant(np.array([-1, 1])))
    b = add("Sin", add("MatMul", t, constant(w["rates"].T.copy(), "rates")))
    if label is not None:
        inputs.append(helper.make_tensor_value_info(label, KINDS[label_dtype], label_shape))
        index = label
        if label_dtype not in ("int64", "int32"):
            index = add("Cast", label, to=TensorProto.INT64)
        index = add("Reshape", index, constant(np.array([-1])))
        b = add("Add", b, add("Gather", constant(w["table"], "table"), index))
    if context is not None:
        where = (3,) if rows is None else (rows, 3)
        inputs.append(helper.make_tensor_value_info(context, kind, where))
        c = add("Reshape", context, constant(np.array([-1, 3])))
        b = add("Add", b, add("MatMul", c, constant(w["lift"], "lift")))
    if random:
        b = add("Add", b, add("RandomNormalLike", b))
    inside = rows if isinstance(rows, int) and baked else 1 if baked else -1
    b = add("Reshape", b, constant(np.array([inside, CHANNELS, 1, 1])))
    mix = constant(w["mix"].T.reshape(CHANNELS, CHANNELS, 1, 1).copy(), "mix")
    h = add("Tanh", add("Add", add("Conv", x, mix), b))
    out = add("Sub", h, add("Mul", x, constant(np.array(0.1, w["mix"].dtype))))
    if mixes_rows:
        axes = {"axes": [0]} if opset < 18 else {}
        more = [] if opset < 18 else [constant(np.array([0]))]
        out = add("Add", out, add("ReduceMean", out, *more, **axes))
    if twice:
        out = add("Concat", out, out, axis=1)
        inner = (2 * CHANNELS, *size)
        shape = inner if rows is None else (rows, *inner)
    if channels_last:
        out = add("Transpose", out, perm=[0, 2, 3, 1])
    if rows is None:
        out = add("Reshape", out, constant(np.array(inner)))
    if state_dtype != dtype:
        out = add("Cast", out, to=KINDS[state_dtype])
    nodes.append(helper.make_node("Identity", [out], [output]))
    outputs = [helper.make_tensor_value_info(output, KINDS[state_dtype], shape)]
    if extra_output:
        nodes.append(helper.make_node("Identity", [h], ["hidden"]))
        outputs.insert(0, helper.make_tensor_value_info("hidden", kind, ("B", CHANNELS, *size)))
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    if dtype == "bfloat16":
        tensors = [
            helper.make_tensor(t.name, kind, t.dims, numpy_helper.to_array(t).ravel())
            if t.data_type == TensorProto.FLOAT
            else t
            for t in tensors
        ]
    if listed_weights:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    ir_version = 3 if listed_weights else 8
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version,
        producer_name="tests", producer_version="1",
    )  # fmt: skip
    onnx.checker.check_model(model)
    more = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 70}
    onnx.save(model, str(path), **(more if external else {}))
    return path
