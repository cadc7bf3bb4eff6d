#!/usr/bin/env bash
# A file of torch.onnx.export holds the exporter's home folder, and lines of the model's source.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2.
# Guess before the run: a graph holds operators, weights and names; stacks are there while the export
#   runs, for its error messages, and verbose=False saves none, as with dynamo=False.
# Seen: every node's metadata_props has pkg.torch.onnx.stack_trace, with absolute paths, line numbers
#   and source, of the model and of torch, in a file that was to be passed on:
#     dynamo=True, verbose=False: path True, source True, in 2 of 2 nodes
#     dynamo=False, verbose=False: path False, source False, in 0 of 2 nodes
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6
mkdir "$dir/home_of_somebody"
cat > "$dir/home_of_somebody/net.py" <<'PY'
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        secret = torch.relu(x)
        return secret * 3.0
PY
"$dir/venv/bin/python" - "$dir" <<'PY'
import logging, sys, warnings
from pathlib import Path
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
home = Path(sys.argv[1]) / "home_of_somebody"
sys.path.insert(0, str(home))
import net, onnx, torch

found = []
for dynamo in (True, False):
    file = Path(sys.argv[1]) / "net.onnx"
    torch.onnx.export(net.Net().eval(), (torch.ones(2),), file, dynamo=dynamo, verbose=False)
    data = file.read_bytes()
    nodes = [n for n in onnx.load(file).graph.node if n.op_type != "Constant"]
    path = f'File "{home}/net.py", line 5, in forward'
    told = sum(any(p.key == "pkg.torch.onnx.stack_trace" and str(home) in p.value
                   for p in n.metadata_props) for n in nodes)
    found.append(f"dynamo={dynamo}, verbose=False: path {path.encode() in data}, "
                 f"source {b'secret = torch.relu(x)' in data}, in {told} of {len(nodes)} nodes")
print(*found, sep="\n")
assert found == [
    "dynamo=True, verbose=False: path True, source True, in 2 of 2 nodes",
    "dynamo=False, verbose=False: path False, source False, in 0 of 2 nodes",
]
PY
