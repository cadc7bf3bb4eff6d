#!/usr/bin/env bash
# A float32 model runs in bfloat16 in OpenVINO by default, and its ACCURACY mode names no precision.
#
# Version: openvino 2026.4.1, on a processor with AVX512-BF16 or AMX (elsewhere the script says so).
# Guess before the run: a model of float32 weights and inputs is computed in float32 unless another
#   precision is asked for, and EXECUTION_MODE_HINT=ACCURACY reports float32.
# Seen: by default products are of bfloat16; ACCURACY computes in float32 and reports "dynamic".
#     default: bf16, off by 1e-02
#     ACCURACY: dynamic, off by 3e-06
#     f32: f32, off by 3e-06
set -euo pipefail
grep -q -E 'avx512_bf16|amx_bf16' /proc/cpuinfo || { echo "this processor has no bfloat16 products"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-deps openvino==2026.4.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import sys
sys.modules["openvino_telemetry"] = None  # it reports the import
import numpy as np, openvino as ov
from openvino import opset13 as ops

rng = np.random.default_rng(0)
x, w = (rng.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
given = ops.parameter([256, 256], np.float32)
model = ov.Model([ops.matmul(given, ops.constant(w), False, False)], [given])
want = x.astype(np.float64) @ w

def run(**options):
    compiled = ov.Core().compile_model(model, "CPU", options)
    out = compiled([x])[0]
    name = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return name, float(np.abs(out - want).max() / np.sqrt((want**2).mean()))

found = {
    "default": run(),
    "ACCURACY": run(EXECUTION_MODE_HINT="ACCURACY"),
    "f32": run(INFERENCE_PRECISION_HINT="f32"),
}
for what, (name, error) in found.items():
    print(f"{what}: {name}, off by {error:.0e}")
names = {what: name for what, (name, _) in found.items()}
assert names == {"default": "bf16", "ACCURACY": "dynamic", "f32": "f32"}, names
assert found["default"][1] > 1e-3 > 1e-5 > max(found["ACCURACY"][1], found["f32"][1])
PY
