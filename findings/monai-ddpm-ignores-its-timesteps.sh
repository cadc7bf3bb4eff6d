#!/usr/bin/env bash
# MONAI's schedulers take fewer steps than training without the samples being right.
#
# Version: monai 1.6.1.
# Guess before the run: set_timesteps(N) makes step() go from each listed time to the next one, as in
#   the library that MONAI's schedulers are modelled on; with an exact network the samples keep the
#   data's spread, up to the sampler's own error.
# Seen: DDPMScheduler.step goes from t to t - 1 whatever set_timesteps said, so with 50 steps nearly
#   all noise stays; DDIMScheduler lists times evenly but steps T // N down, which is another grid
#   where N doesn't divide T. Spread of samples of an exact network, data of spread 0.5:
#     DDPM 1000 steps 0.50, DDPM 50 steps 0.94, DDIM 250 steps 0.50, DDIM 600 steps 0.66
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$dir/venv/bin/pip" install -q --no-deps monai==1.6.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

def spread(kind, steps):
    torch.manual_seed(0)
    scheduler = kind(1000, clip_sample=False)
    scheduler.set_timesteps(steps)
    x = torch.randn(20000, 1)
    for t in scheduler.timesteps:
        a = scheduler.alphas_cumprod[t]
        noise = (1 - a).sqrt() * x / (a / 4 + 1 - a)  # E[eps | x] for data of spread 1/2
        x, _ = scheduler.step(noise, int(t), x)
    return float(x.std())

found = [round(spread(*one), 2) for one in
         ((DDPMScheduler, 1000), (DDPMScheduler, 50), (DDIMScheduler, 250), (DDIMScheduler, 600))]
print("DDPM 1000 steps %.2f, DDPM 50 steps %.2f, DDIM 250 steps %.2f, DDIM 600 steps %.2f" % tuple(found))
assert [abs(v - 0.5) < 0.02 for v in found] == [True, False, True, False]
assert found[1] > 0.9 and found[3] > 0.6
PY
