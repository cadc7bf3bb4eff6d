#!/usr/bin/env bash
# Image to image with diffusers' LMS or PNDM leaves noise in the picture, however good the network.
#
# Version: diffusers 0.42.1 (with transformers 5.24.0, which its pipelines import).
# Guess before the run: a multistep method that begins in the middle begins with its first order, as
#   it does at the grid's start. With a network that knows the picture all noise goes, but for the
#   0.029 at which DDIM's and PNDM's grids of Stable Diffusion end.
# Seen: LMS counts its order from the grid's start, so that the first three calls of a run get the
#   weights of the newest of four slopes without the older ones', and their steps have a wrong length.
#   PNDM's list has its second time twice, for the first step's correction; a run that begins behind
#   that corrects with the next time instead, and every call after that is for a lower noise level than
#   the sample's. Noise left, 20 steps, at strength 1 and 0.3:
#     DDIM 0.029 0.029, DPM-Solver++ 0.000 0.000, LMS 0.000 0.068, PNDM 0.029 0.038
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 numpy==2.4.6 scipy==1.16.3
HF_HUB_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" -W ignore - <<'PY'
import types

import diffusers
import numpy as np
import torch

def left(kind, strength, **config):
    """Spread of what remains of a picture of zeros, by a network that knows it."""
    scheduler = getattr(diffusers, f"{kind}Scheduler")(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **config
    )
    scheduler.set_timesteps(20)
    holder = types.SimpleNamespace(scheduler=scheduler)
    times, _ = diffusers.StableDiffusionImg2ImgPipeline.get_timesteps(holder, 20, strength, "cpu")
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = scheduler.add_noise(torch.zeros_like(noise), noise, times[:1])
    sigmas = (1 / scheduler.alphas_cumprod.double() - 1).sqrt().numpy()
    for t in times:
        sigma = np.interp(float(t), np.arange(1000), sigmas)
        predicted = scheduler.scale_model_input(x, t) * (1 + sigma**2) ** 0.5 / sigma
        x = scheduler.step(predicted, t, x).prev_sample
    return float(x.std())

offset = {"steps_offset": 1}
runs = {"DDIM": ("DDIM", {"clip_sample": False, "set_alpha_to_one": False, **offset}),
        "DPM-Solver++": ("DPMSolverMultistep", {}), "LMS": ("LMSDiscrete", {}),
        "PNDM": ("PNDM", {"skip_prk_steps": True, **offset})}
found = {name: [left(kind, s, **config) for s in (1.0, 0.3)] for name, (kind, config) in runs.items()}
print(", ".join(f"{name} {whole:.3f} {part:.3f}" for name, (whole, part) in found.items()))
for name in ("DDIM", "DPM-Solver++"):
    assert abs(found[name][0] - found[name][1]) < 0.002
assert found["LMS"][0] < 0.001 and found["LMS"][1] > 0.05
assert abs(found["PNDM"][0] - found["DDIM"][0]) < 0.002 and found["PNDM"][1] > 1.2 * found["PNDM"][0]
PY
