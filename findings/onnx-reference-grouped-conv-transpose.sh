#!/usr/bin/env bash
# ONNX's reference evaluator refuses a transposed convolution of groups of several channels.
#
# Versions: onnx 1.23.2, onnxruntime 1.32.0.
# Guess before the run: the reference runs every valid model of the standard, slowly.
# Seen: a checked ConvTranspose of 2 groups of 2 channels raises an error of a reshape in the evaluator; ONNX Runtime
#   gives the sum that the standard defines. Whoever takes the reference as the oracle of a rewrite
#   needs another one for these (PyTorch in float64, say).
#     ReferenceEvaluator ValueError, ONNX Runtime [3.0, 3.0, 7.0, 7.0]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2, strides=[2])
weights = helper.make_tensor("w", TensorProto.FLOAT, [4, 1, 2], [1.0] * 8)
graph = helper.make_graph(
    [node], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 1])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 2])], [weights],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model, full_check=True)
x = np.array([[[1.0], [2.0], [3.0], [4.0]]], np.float32)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
runs = session.run(None, {"x": x})[0].ravel().tolist()
try:
    seen = str(ReferenceEvaluator(model).run(None, {"x": x})[0].ravel().tolist())
except Exception as error:
    seen = type(error).__name__
print(f"ReferenceEvaluator {seen}, ONNX Runtime {runs}")
assert seen == "ValueError" and runs == [3.0, 3.0, 7.0, 7.0]
PY
