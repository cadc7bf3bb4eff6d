#!/usr/bin/env bash
# safetensors writes the same weights and metadata as another file each time.
#
# Version: safetensors 0.8.0.
# Guess before the run: the format sorts its tensors and allows no gaps, so one set of tensors and
#   metadata is one sequence of bytes, and a hash of the file says whether weights have changed.
# Seen: so it is without metadata or with a single entry, as diffusers' {"format": "pt"}. Several
#   entries come in an order that is drawn for each call, and trainers of LoRAs write dozens. A cache
#   by the file's hash takes a file that was saved again for other weights. Files of 20
#   calls, of equal content:
#     0 entries: 1 file; 1 entry: 1 file; 8 entries: 20 files
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import json

import numpy as np
from safetensors.numpy import save

weights, files = {"down": np.zeros((4, 2)), "up": np.ones((2, 4))}, {}
for entries in (0, 1, 8):
    metadata = {f"ss_{k}": str(k) for k in range(entries)} or None
    files[entries] = {save(weights, metadata=metadata) for _ in range(20)}

def content(file):
    end = 8 + int.from_bytes(file[:8], "little")
    return json.dumps(json.loads(file[8:end]), sort_keys=True), file[end:]

print("; ".join(f"{n} {'entry' if n == 1 else 'entries'}: {len(found)} file{'s' * (len(found) > 1)}"
                for n, found in files.items()))
assert len(files[0]) == len(files[1]) == 1 and len(files[8]) > 10
assert len({len(file) for file in files[8]}) == len({content(file) for file in files[8]}) == 1
PY
