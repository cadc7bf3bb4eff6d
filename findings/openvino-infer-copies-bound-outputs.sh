#!/usr/bin/env bash
# OpenVINO's infer() copies every output to a new array, although the caller's memory is bound.
#
# Versions: openvino 2026.4.1.
# Guess before the run: with set_output_tensor(Tensor(array, shared_memory=True)) an inference writes
#   into the array and allocates nothing of its size.
# Seen: the array is written, and infer() makes a copy of it too, for the results that it returns and
#   nobody reads; share_outputs=True leaves that out. Peak of what a call allocates, 4 MiB of output:
#     infer() 4 MiB, infer(share_outputs=True) 0 MiB
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import sys

sys.modules["openvino_telemetry"] = None
import tracemalloc

import numpy as np
import openvino as ov
from openvino import opset13 as op

x = op.parameter([1024, 1024], np.float32)
compiled = ov.Core().compile_model(ov.Model([op.relu(x)], [x]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
given, out = np.full((1024, 1024), -1.0, np.float32), np.ones((1024, 1024), np.float32)
given[0, 0] = 2.0
request = compiled.create_infer_request()
request.set_input_tensor(ov.Tensor(given, shared_memory=True))
request.set_output_tensor(ov.Tensor(out, shared_memory=True))
request.infer()
assert out[0, 0] == 2.0 and out[1:].max() == 0.0  # bound indeed


def peak(**options):
    tracemalloc.start()
    request.infer(**options)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found / 2**20


plain, shared = peak(), peak(share_outputs=True)
print(f"infer() {plain:.0f} MiB, infer(share_outputs=True) {shared:.0f} MiB")
assert plain > 3.9 and shared < 0.1
PY
