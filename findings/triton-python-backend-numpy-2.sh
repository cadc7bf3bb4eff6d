#!/usr/bin/env bash
# A tensor of Triton's Python backend of 24.10 holds other numbers than the array it is made of, with
# NumPy 2.
#
# Version: Triton Inference Server 24.10 (2.51) as in nvidia-pytriton 0.7.0, NumPy 2.4.6 and 1.26.4,
#   Python 3.11.
# Guess before the run: the backend either works with a NumPy or refuses to start with it.
# Seen: it starts, and makes the tensor without an error or a warning; under NumPy 2 it reads the
#   array's item size wrongly. The numbers of arange(3), int32, after a round trip inside of the model:
#     NumPy 1.26.4: [0, 1, 2]
#     NumPy 2.4.6: [0, 0, 0]
set -euo pipefail
dir=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --no-deps nvidia-pytriton==0.7.0
package=$("$dir/venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("pytriton").submodule_search_locations[0])')
python=$("$dir/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
triton=$package/tritonserver
cp "$triton/python_backend_stubs/$python/triton_python_backend_stub" "$triton/backends/python/"
chmod +x "$triton/backends/python/triton_python_backend_stub" "$triton/bin/tritonserver"

mkdir -p "$dir/models/count/1"
cat >"$dir/models/count/config.pbtxt" <<'TXT'
backend: "python"
max_batch_size: 0
input [ { name: "n" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "numbers" data_type: TYPE_INT32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
TXT
cat >"$dir/models/count/1/model.py" <<'PY'
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        tensor = pb.Tensor("numbers", np.arange(3, dtype=np.int32))
        back = pb.Tensor.from_dlpack("back", tensor).as_numpy()
        said = pb.TritonError(f"seen {back.tolist()}")   # a text, which no array carries
        return [pb.InferenceResponse(error=said) for _ in requests]
PY

ask() {   # NumPy's version -> what the model saw
  "$dir/venv/bin/pip" install -q "numpy==$1" >&2
  local port
  port=$("$dir/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  LD_LIBRARY_PATH=$("$dir/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))') \
    PATH="$dir/venv/bin:$PATH" "$triton/bin/tritonserver" --model-repository="$dir/models" \
    --backend-directory="$triton/backends" --http-address=127.0.0.1 --http-port="$port" \
    --allow-grpc=false --allow-metrics=false >"$dir/log" 2>&1 &
  server=$!
  "$dir/venv/bin/python" - "$port" <<'PY'
import json, sys, time, urllib.error, urllib.request
base = f"http://127.0.0.1:{sys.argv[1]}/v2"
for _ in range(600):
    try:
        urllib.request.urlopen(f"{base}/health/ready")
        break
    except OSError:
        time.sleep(0.1)
body = {"inputs": [{"name": "n", "datatype": "INT32", "shape": [1], "data": [3]}]}
request = urllib.request.Request(f"{base}/models/count/infer", json.dumps(body).encode())
try:
    urllib.request.urlopen(request)
except urllib.error.HTTPError as answer:
    print(json.load(answer)["error"].partition("seen ")[2])
PY
  kill "$server"
  wait "$server" 2>/dev/null || true
}

old=$(ask 1.26.4)
new=$(ask 2.4.6)
printf 'NumPy 1.26.4: %s\nNumPy 2.4.6: %s\n' "$old" "$new"
[[ $old == "[0, 1, 2]" && $new == "[0, 0, 0]" ]]
