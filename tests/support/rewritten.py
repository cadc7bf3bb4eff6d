"""A graph before and after rewrites, run by ONNX's reference evaluator and by both runtimes."""

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from revstep.engine.backends.ov.library import core, installed
from revstep.export.rewrite.apply import applicable, rewrite_graph


def rewritten(proto, folder, *names):
    """The model after the rewrites of these names, None where they change nothing."""
    source, out = folder / "source.onnx", folder / "out.onnx"
    out.unlink(missing_ok=True)
    onnx.save(proto, source)
    changed = rewrite_graph(source, out, names)
    assert (changed != ()) == out.exists()
    assert set(changed) <= set(names)
    if set(names) == set(applicable(source)):
        assert changed == applicable(source)
    return onnx.load(out) if changed else None


def kinds(proto):
    """The operators of a model, in order."""
    return [node.op_type for node in proto.graph.node]


def in_float64(proto, feeds):
    """The reference: every float32 weight, constant and input in float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    tensors = list(wide.graph.initializer)
    tensors += [a.t for n in wide.graph.node for a in n.attribute if a.HasField("t")]
    for tensor in tensors:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for node in wide.graph.node:
        for a in node.attribute:
            if a.name == "to" and a.i == onnx.TensorProto.FLOAT:
                a.i = onnx.TensorProto.DOUBLE
    for value in [*wide.graph.input, *wide.graph.output]:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del wide.graph.value_info[:]
    wide_feeds = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feeds.items()}
    return ReferenceEvaluator(wide).run(None, wide_feeds)


def by_onnxruntime(proto, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def by_openvino(proto, feeds):
    """The outputs in the model's order, in float32; None without OpenVINO."""
    if not installed():
        return None
    compiled = core().compile_model(
        core().read_model(proto.SerializeToString()), "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1},
    )  # fmt: skip
    found = compiled({name: feeds[name] for name in feeds})
    return [np.array(found[i]) for i in range(len(compiled.outputs))]


def error(got, want):
    """The largest difference, relative to the largest value."""
    return float(np.abs(np.asarray(got, np.float64) - want).max() / (np.abs(want).max() or 1.0))


def assert_same(before, after, feeds, bound=2e-6, want=None):
    """A model by every runtime against what it was before in float64, or what is ``want``-ed."""
    runs = [by_onnxruntime(after, feeds), by_openvino(after, feeds)]
    if want is None:
        want = in_float64(before, feeds)
        runs.append(in_float64(after, feeds))
    for found in runs:
        for got, right in zip(found or [], want, strict=False):
            assert got.shape == right.shape
            assert error(got, right) < bound
