#!/usr/bin/env bash
# The ONNX exporter's optimiser takes x + 1e-8 for x, and x * 1.000009 for x.
#
# Versions: torch 2.13.0, onnxscript 0.7.2 (run by torch.onnx.export by default), onnxruntime 1.32.0.
# Guess before the run: constants reach the graph as they are; an optimiser drops exact zeros and ones.
# Seen: its no-op rules match constants with an absolute tolerance of 1e-8 and a relative one of 1e-5,
#   so the guard of a division is gone. PyTorch gives 0 for a row of zeros, the graph gives NaN:
#     guard 1e-07: Abs Add Div -> 0.0
#     guard 1e-08: Abs Div -> nan
#     factor 1.000009: Identity
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" - "$dir/graph.onnx" <<'PY'
import logging, sys, warnings
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
import onnx, onnxruntime, torch

class Guarded(torch.nn.Module):
    def __init__(self, guard):
        super().__init__()
        self.guard = guard
    def forward(self, x):
        return x / (x.abs() + self.guard)

class Scaled(torch.nn.Module):
    def forward(self, x):
        return x * 1.000009

def exported(module):
    torch.onnx.export(module, (torch.ones(2),), dynamo=True, verbose=False).save(sys.argv[1])
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    out = session.run(None, {name: torch.zeros(2).numpy()})[0]
    return " ".join(n.op_type for n in onnx.load(sys.argv[1]).graph.node), float(out[0])

found = []
for guard in (1e-7, 1e-8):
    assert float(Guarded(guard)(torch.zeros(2))[0]) == 0.0
    nodes, value = exported(Guarded(guard))
    found.append(f"guard {guard:g}: {nodes} -> {value}")
found.append(f"factor 1.000009: {exported(Scaled())[0]}")
print(*found, sep="\n")
assert found == ["guard 1e-07: Abs Add Div -> 0.0", "guard 1e-08: Abs Div -> nan", "factor 1.000009: Identity"]
PY
