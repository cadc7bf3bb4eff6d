#!/usr/bin/env bash
# from_config of a pipeline's own scheduler is another scheduler than the pipeline's.
#
# Version: diffusers 0.42.1.
# Guess before the run: type(s).from_config(s.config), the documented way to swap or copy a
#   pipeline's scheduler, gives one with the same settings.
# Seen: StableDiffusionPipeline sets steps_offset=1 on a scheduler that was made with defaults; the config still lists the key as a default, and from_config takes the
#   class's default again, so that every timestep is one earlier:
#     the pipeline's steps_offset 1, from_config's 0; first timesteps 801 and 800
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 numpy==2.4.6
HF_HUB_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" -W ignore - <<'PY' 2>/dev/null
import diffusers

unet = diffusers.UNet2DConditionModel(
    sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
    down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, cross_attention_dim=8,
)
pipeline = diffusers.StableDiffusionPipeline(
    vae=None, text_encoder=None, tokenizer=None, unet=unet, scheduler=diffusers.DDIMScheduler(),
    safety_checker=None, feature_extractor=None, requires_safety_checker=False,
)
own = pipeline.scheduler
copied = type(own).from_config(own.config)
for scheduler in (own, copied):
    scheduler.set_timesteps(5)
print(f"the pipeline's steps_offset {own.config.steps_offset}, from_config's "
      f"{copied.config.steps_offset}; first timesteps {own.timesteps[0]} and {copied.timesteps[0]}")
assert (own.config.steps_offset, copied.config.steps_offset) == (1, 0)
assert int(own.timesteps[0]) == int(copied.timesteps[0]) + 1
PY
