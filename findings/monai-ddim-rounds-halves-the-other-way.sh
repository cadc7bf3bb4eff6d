#!/usr/bin/env bash
# MONAI's DDIMScheduler and diffusers', over linspace, call the network at other times.
#
# Version: monai 1.6.0, diffusers 0.42.1, torch 2.13.0 (CPU).
# Guess before the run: MONAI's scheduler says that it is taken from diffusers, both round a linspace
#   from 999 to 0, and a checkpoint sampled by one gives the other's pictures at any number of steps.
# Seen: MONAI counts down in float32, diffusers up in float64, and halves are rounded to even: one
#   timestep of some numbers of steps differs by one:
#     24 of 198 numbers of steps: {27: [(500, 499)]}
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 diffusers==0.42.1
"$dir/venv/bin/pip" install -q --no-deps monai==1.6.0
"$dir/venv/bin/python" -W ignore - <<'PY'
from diffusers import DDIMScheduler as Original
from monai.networks.schedulers import DDIMScheduler

one, other, differ = DDIMScheduler(num_train_timesteps=1000), Original(timestep_spacing="linspace"), {}
for steps in range(2, 200):
    one.set_timesteps(steps)
    other.set_timesteps(steps)
    pairs = zip(one.timesteps.tolist(), other.timesteps.tolist(), strict=True)
    if apart := [(a, b) for a, b in pairs if a != b]:
        differ[steps] = apart
print(f"{len(differ)} of 198 numbers of steps:", {s: differ[s] for s in (27, 30) if s in differ})
assert differ and all(abs(a - b) == 1 for apart in differ.values() for a, b in apart)
PY
