#!/usr/bin/env bash
# "trailing" timesteps: 61 steps asked for are 62, the last at time -1.
#
# Version: diffusers 0.42.1.
# Guess before the run: set_timesteps(n) gives n timesteps for any n up to 1,000.
# Seen: they are numpy.arange(1000, 0, -1000 / n), whose length floating-point rounding decides; for
#   some n it holds one more value near 0, which becomes -1. A run then calls the network at -1, where
#   a table of time embeddings takes its last row:
#     61 steps: 62 timesteps, the last -1
#     too many for 61 103 121 122 201 ... : 62 of the first 1,000 step counts
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 numpy==2.4.6
HF_HUB_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" - <<'PY'
from diffusers import DDIMScheduler

def steps(n):
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(n)
    return scheduler.timesteps.tolist()

print(f"61 steps: {len(steps(61))} timesteps, the last {steps(61)[-1]}")
longer = [n for n in range(1, 1001) if len(steps(n)) != n]
print("too many for", *longer[:5], "... :", len(longer), "of the first 1,000 step counts")
assert len(steps(61)) == 62 and steps(61)[-1] == -1 and steps(60)[-1] >= 0
assert longer[:5] == [61, 103, 121, 122, 201] and len(longer) == 62
PY
