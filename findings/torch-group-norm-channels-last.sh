#!/usr/bin/env bash
# PyTorch's GroupNorm on a CPU loses three digits when its input lies channels-last.
#
# Version: torch 2.13.0 (CPU).
# Guess before the run: the memory format of a tensor changes speed, and the result by a rounding or
#   two: both kernels sum the million values of a group about as carefully.
# Seen: of pictures of 512 x 512 in 8 groups the contiguous kernel is within 1e-6 of float64, the
#   channels-last one 2e-4 to 3e-4 off. Convolutions on a CPU hand such tensors on by themselves, so
#   a VAE that decodes two pictures at once is further from float64 than one that decodes one:
#     mean 0: contiguous 5e-07, channels-last 2e-04; mean 1: contiguous 6e-07, channels-last 3e-04
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import torch

torch.manual_seed(0)
norm, said = torch.nn.GroupNorm(8, 16), []
for mean in (0.0, 1.0):
    x = torch.randn(2, 16, 512, 512) + mean
    want = torch.nn.functional.group_norm(x.double(), 8)
    with torch.no_grad():
        plain, last = (float((norm(y).double() - want).abs().max())
                       for y in (x, x.to(memory_format=torch.channels_last)))
    said.append(f"mean {mean:.0f}: contiguous {plain:.0e}, channels-last {last:.0e}")
    assert plain < 1e-5 and last > 5e-5
print("; ".join(said))
PY
