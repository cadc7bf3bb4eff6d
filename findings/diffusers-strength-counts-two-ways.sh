#!/usr/bin/env bash
# One strength is one more step in diffusers' flow pipelines than in its others.
#
# Version: diffusers 0.42.1 (with transformers 5.23.0, which its pipelines import).
# Guess before the run: image-to-image pipelines of one library run the same number of the steps
#   asked for at a given strength.
# Seen: Stable Diffusion's truncates the count, int(steps * strength); Stable Diffusion 3's and Flux's
#   keep it as a fraction and truncate where the run begins, which rounds the count up:
#     strength 0.33 of 10 steps: 3 in StableDiffusionImg2ImgPipeline, 4 in StableDiffusion3Img2ImgPipeline
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.23.0 numpy==2.4.6
HF_HUB_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" - <<'PY'
import types
import diffusers

def run(pipeline, scheduler):
    scheduler.set_timesteps(10)
    holder = types.SimpleNamespace(scheduler=scheduler)
    return len(getattr(diffusers, pipeline).get_timesteps(holder, 10, 0.33, "cpu")[0])

old = run("StableDiffusionImg2ImgPipeline", diffusers.DDIMScheduler())
new = run("StableDiffusion3Img2ImgPipeline", diffusers.FlowMatchEulerDiscreteScheduler())
print(f"strength 0.33 of 10 steps: {old} in StableDiffusionImg2ImgPipeline, {new} in StableDiffusion3Img2ImgPipeline")
assert (old, new) == (3, 4)
PY
