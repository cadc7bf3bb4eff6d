#!/usr/bin/env bash
# Two of diffusers' solvers end a Karras grid with a step of length 0, and keep its noise.
#
# Version: diffusers 0.42.1.
# Guess before the run: with use_karras_sigmas every multistep scheduler goes on to sigma 0 after its
#   last level, as DPMSolverMultistepScheduler and UniPCMultistepScheduler do.
# Seen: DEISMultistepScheduler and SASolverScheduler have no final_sigmas_type and repeat the last
#   level, so that the last network call changes nothing but noise and the sample keeps sigma:
#     DPM-Solver++ ends 0.0292, 0.0000; UniPC 0.0292, 0.0000; DEIS 0.0292, 0.0292; SA-Solver 0.0292, 0.0292
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 numpy==2.4.6 scipy==1.16.3
HF_HUB_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" -W ignore - <<'PY'
import diffusers

found = {}
for name, kind in (("DPM-Solver++", "DPMSolverMultistep"), ("UniPC", "UniPCMultistep"),
                   ("DEIS", "DEISMultistep"), ("SA-Solver", "SASolver")):
    scheduler = getattr(diffusers, f"{kind}Scheduler")(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True
    )
    scheduler.set_timesteps(5)
    found[name] = [float(s) for s in scheduler.sigmas[-2:]]
print("; ".join(f"{name} ends {a:.4f}, {b:.4f}" for name, (a, b) in found.items()))
assert found["DPM-Solver++"][1] == found["UniPC"][1] == 0.0
assert found["DEIS"][0] == found["DEIS"][1] > 0.0
assert found["SA-Solver"][0] == found["SA-Solver"][1] > 0.0
PY
