#!/usr/bin/env bash
# Seeds that are 2**32 apart draw the same noise from PyTorch's CPU generator.
#
# Version: torch 2.13.0 (CPU), beside NumPy 2.4.6.
# Guess before the run: manual_seed takes any number of 64 bits and initial_seed() gives it back, so
#   two such seeds are two pictures, as with numpy.random.default_rng.
# Seen: only the low 32 bits count. Of 77,000 seeds drawn from 64 bits, two give one picture with even
#   odds, and a seed made as (user << 32) + picture is the same for every user. Latents 1 x 4 x 64 x 64:
#     0 and 2**32: one noise; 7 and 7 + 2**40: one noise; -1 and 2**32 - 1: one noise; 0 and 1: two
#     NumPy: 0 and 2**32: two
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import torch

def noise(seed):
    generator = torch.Generator().manual_seed(seed)
    assert generator.initial_seed() == seed % 2**64  # all of it is kept and reported
    return torch.randn(1, 4, 64, 64, generator=generator)

pairs = {"0 and 2**32": (0, 2**32), "7 and 7 + 2**40": (7, 7 + 2**40),
         "-1 and 2**32 - 1": (-1, 2**32 - 1), "0 and 1": (0, 1)}
same = {name: torch.equal(noise(a), noise(b)) for name, (a, b) in pairs.items()}
print("; ".join(f"{name}: {'one noise' if one else 'two'}" for name, one in same.items()))
one, other = (np.random.default_rng(seed).standard_normal(16) for seed in (0, 2**32))
print("NumPy: 0 and 2**32:", "one noise" if np.array_equal(one, other) else "two")
assert list(same.values()) == [True, True, True, False] and not np.array_equal(one, other)
PY
