#!/usr/bin/env bash
# A float input that is converted to an integer index, in OpenVINO in bf16: another row is read.
#
# Versions: openvino 2026.4.1, on a processor with bf16 products (AVX512-BF16 or AMX).
# Guess before the run: only products are rounded to bf16; 997.0 -> int64 is 997 whatever the hint.
# Seen: the input is rounded to bf16 before the conversion, as it also feeds a product's branch: times
#   1, 257, 751, 997 look up rows 1, 256, 752, 996. With the hint f32 the rows are right. A diffusion
#   network that takes float times and looks up a table of embeddings gets its neighbours' rows.
#     f32 [1, 257, 751, 997], bf16 [1, 256, 752, 996]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import sys

sys.modules["openvino_telemetry"] = None
import numpy as np
import openvino as ov
from openvino import opset13 as op

core = ov.Core()
if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
    print("this processor has no bf16 products")
    sys.exit()
t = op.parameter([4, 1], np.float32, name="t")
table = op.constant(np.repeat(np.arange(1000, dtype=np.float32)[:, None], 16, 1))
index = op.convert(op.squeeze(t, op.constant(1)), "i64")
rows = op.matmul(op.gather(table, index, op.constant(0)), op.constant(np.eye(16, dtype=np.float32)), False, False)
model = ov.Model([rows], [t])
found = {}
for hint in ("f32", "bf16"):
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    found[hint] = compiled(np.array([[1], [257], [751], [997]], np.float32))[0][:, 0].astype(int).tolist()
print(", ".join(f"{hint} {values}" for hint, values in found.items()))
assert found == {"f32": [1, 257, 751, 997], "bf16": [1, 256, 752, 996]}
PY
