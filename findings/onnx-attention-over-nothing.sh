#!/usr/bin/env bash
# Attention whose mask is all False: 0 in PyTorch, the mean of the values in the exported graph.
#
# Versions: torch 2.13.0, onnxscript 0.7.2, onnxruntime 1.32.0.
# Guess before the run: NaN in both (a softmax over nothing), or the same number in both.
# Seen: scaled_dot_product_attention gives 0 for such a row; the exporter turns the mask into the
#   lowest float32, not -inf, whose softmax is even, and the graph gives the mean. A classifier-free
#   guidance with an empty prompt has such rows.
#     PyTorch 0.0, ONNX Runtime 2.5 (values 1, 2, 3, 4)
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" - "$dir/graph.onnx" <<'PY'
import logging, sys, warnings
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
import onnxruntime, torch

class Attend(torch.nn.Module):
    def forward(self, q, k, v, mask):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

q, k = torch.ones(1, 1, 1, 8), torch.ones(1, 1, 4, 8)
v = torch.arange(1.0, 5.0).reshape(1, 1, 4, 1).expand(1, 1, 4, 8).contiguous()
mask = torch.zeros(1, 1, 1, 4, dtype=torch.bool)
torch.onnx.export(Attend(), (q, k, v, mask), dynamo=True, verbose=False).save(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feeds = {i.name: value.numpy() for i, value in zip(session.get_inputs(), (q, k, v, mask))}
ours, graphs = float(Attend()(q, k, v, mask).flatten()[0]), float(session.run(None, feeds)[0].flatten()[0])
print(f"PyTorch {ours}, ONNX Runtime {graphs}")
assert ours == 0.0 and abs(graphs - 2.5) < 1e-6
PY
