#!/usr/bin/env bash
# Where four tiles of a tiled VAE decode meet, diffusers blends one of them twice.
#
# Version: diffusers 0.42.1.
# Guess before the run: tiles are blended from what the decoder gave for each of them, so that a
#   pixel under four tiles is the bilinear mixture of the four.
# Seen: blending writes into the list of tiles while it goes on, and the next row is blended with
#   rows that are blended already: away from the corners the picture is the mixture, in a corner it
#   is not. Largest difference to the mixture of the four, by place:
#     along edges 0.0e+00, where four tiles meet 1.9e-01, of pictures from -2.01 to 2.22
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 numpy==2.4.6
HF_HUB_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" -W ignore - <<'PY'
import diffusers, torch

torch.manual_seed(0)
vae = diffusers.AutoencoderKL(
    block_out_channels=(8, 8, 16), norm_num_groups=4, sample_size=32, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
).eval()
vae.enable_tiling()  # tiles of 8 x 8 latents, every 6: 32 x 32 pixels, every 24, 8 of them shared
latents = torch.randn(1, 4, 14, 14)
with torch.no_grad():
    theirs = vae.decode(latents).sample
    tiles = {(r, c): vae.decoder(vae.post_quant_conv(latents[:, :, r : r + 8, c : c + 8]))
             for r in (0, 6) for c in (0, 6)}
ramp = torch.arange(8) / 8
def mix(a, b, axis):  # the last 8 of a into the first 8 of b
    w = ramp.reshape((8, 1) if axis == 2 else (1, 8))
    return a * (1 - w) + b * w
upper = mix(tiles[0, 0][..., 24:, 24:], tiles[0, 6][..., 24:, :8], 3)
lower = mix(tiles[6, 0][..., :8, 24:], tiles[6, 6][..., :8, :8], 3)
corner = (theirs[..., 24:32, 24:32] - mix(upper, lower, 2)).abs().max()
edge = (theirs[..., :24, 24:32] - mix(tiles[0, 0][..., :24, 24:], tiles[0, 6][..., :24, :8], 3)).abs().max()
print(f"along edges {edge:.1e}, where four tiles meet {corner:.1e}, of pictures from "
      f"{theirs.min():.2f} to {theirs.max():.2f}")
assert edge < 1e-5
assert corner > 1e-3
PY
