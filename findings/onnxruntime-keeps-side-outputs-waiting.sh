#!/usr/bin/env bash
# ONNX Runtime runs a chain to its end before the small nodes beside it, and keeps all their inputs.
#
# Version: onnxruntime 1.32.0, onnx 1.23.0 (CPU).
# Guess before the run: nodes run as the file lists them, or about so; a small reduction that stands
#   right behind each large tensor lets go of it, so that a chain of 60 tensors of 16 MB needs the
#   memory of a few. If not, listing the reductions' output first helps.
# Seen: the chain runs first, whichever output is listed first, and all 60 tensors wait for their
#   reductions; with the session's execution order PRIORITY_BASED it is two. In megabytes beyond the
#   idle session:
#     chain first 992, reductions first 992, chain first by priority 34
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.0 numpy==2.4.6
cat > run.py <<'PY'
import json, resource, sys
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper

first, order = sys.argv[1:]
count, size = 60, 4 << 20
info = helper.make_tensor_value_info
nodes, largest = [], []
for k in range(count):  # x1 = sin(x0), its largest value, x2 = sin(x1), ...
    nodes.append(helper.make_node("Sin", [f"x{k}"], [f"x{k + 1}"]))
    nodes.append(helper.make_node("ReduceMax", [f"x{k + 1}"], [f"m{k}"], keepdims=1))
    largest.append(f"m{k}")
nodes.append(helper.make_node("Concat", largest, ["all"], axis=0))
outputs = [info(f"x{count}", TensorProto.FLOAT, [size]), info("all", TensorProto.FLOAT, [count])]
if first == "reductions":
    outputs.reverse()
graph = helper.make_graph(nodes, "g", [info("x0", TensorProto.FLOAT, [size])], outputs)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.intra_op_num_threads = 1
if order == "priority":
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
session = ort.InferenceSession(model.SerializeToString(), options)
x = np.ones(size, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
session.run(None, {"x0": x})
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
PY
chain=$("$dir/venv/bin/python" run.py chain default)
reductions=$("$dir/venv/bin/python" run.py reductions default)
priority=$("$dir/venv/bin/python" run.py chain priority)
echo "chain first $chain, reductions first $reductions, chain first by priority $priority"
[ "$chain" -gt 700 ] && [ "$reductions" -gt 700 ] && [ "$priority" -lt 250 ]
