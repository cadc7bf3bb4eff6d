#!/usr/bin/env bash
# TensorRT-RTX builds a 1-D transposed convolution in float32 and float16, and not in bfloat16.
#
# Version: tensorrt-rtx 1.7.1.116 (no GPU is needed to build); onnx 1.23.2 makes the graph.
# Guess before the run: what builds in float16 builds in bfloat16, as Conv does.
# Seen: the build of the bfloat16 graph returns nothing, and the log says that it could not infer the
#   output types of the deconvolution; Conv of the same size builds in all three:
#     Conv: FLOAT built, FLOAT16 built, BFLOAT16 built
#     ConvTranspose: FLOAT built, FLOAT16 built, BFLOAT16 refused
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q tensorrt-rtx==1.7.1.116 onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy, onnx, tensorrt_rtx as trt
from onnx import TensorProto, helper

class Quiet(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
    def log(self, severity, message):
        pass

def graph(op, kind):
    weight = helper.make_tensor("w", kind, (4, 4, 3), numpy.ones(48, numpy.float32))
    value = lambda name: helper.make_tensor_value_info(name, kind, ["batch", 4, 16] if name == "x" else None)
    node = helper.make_node(op, ["x", "w"], ["y"], kernel_shape=[3])
    made = helper.make_graph([node], "one", [value("x")], [value("y")], [weight])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)

def outcome(op, kind):
    logger = Quiet()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph(op, kind).SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", (1, 4, 16), (2, 4, 16), (4, 4, 16))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return "built" if builder.build_serialized_network(network, config) is not None else "refused"

found = []
for op in ("Conv", "ConvTranspose"):
    kinds = ("FLOAT", "FLOAT16", "BFLOAT16")
    found.append(f"{op}: " + ", ".join(f"{k} {outcome(op, getattr(TensorProto, k))}" for k in kinds))
print(*found, sep="\n")
assert found == [
    "Conv: FLOAT built, FLOAT16 built, BFLOAT16 built",
    "ConvTranspose: FLOAT built, FLOAT16 built, BFLOAT16 refused",
]
PY
