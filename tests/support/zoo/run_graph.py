"""An exported graph on a CPU: ONNX Runtime, and for bf16 its operators with bf16's rounding.

ONNX Runtime's CPU provider has no bf16 operators. So a bf16 graph is made one of float32 whose
every bf16 value is rounded to bf16: each operator computes in float32 and rounds its result once,
as hardware with float32 accumulators does.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference

from revstep.engine.backends.onnx_cpu import onnx_session

BF16, F32 = TensorProto.BFLOAT16, TensorProto.FLOAT


def run_graph(path, inputs):
    """The graph's output."""
    model = onnx.load(path)
    if not any(BF16 in dtypes for dtypes in _dtypes(model.graph)):
        return onnx_session(path, threads=1).run(None, inputs)[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        rounded(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)[0]


def rounded(model):
    """The model with float32 in bf16's place, rounded to bf16 after each operator."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    graph, nodes = model.graph, []
    for weight in graph.initializer:
        weight.CopyFrom(_wide(weight))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_wide(attribute.t))
            elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i == BF16:
                attribute.i = F32
        nodes.append(node)
        for place, name in enumerate(node.output):
            if kinds.get(name) == BF16:
                exact = node.output[place] = f"{name}__exact"
                nodes.append(helper.make_node("Cast", [exact], [f"{name}__bf16"], to=BF16))
                nodes.append(helper.make_node("Cast", [f"{name}__bf16"], [name], to=F32))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model


def _wide(tensor):
    """A bf16 tensor as float32, exactly; another as it is."""
    if tensor.data_type != BF16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _dtypes(graph):
    yield {weight.data_type for weight in graph.initializer}
    for node in graph.node:
        yield {attribute.i for attribute in node.attribute if attribute.name == "to"}
