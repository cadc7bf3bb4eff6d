"""From the start of a process to its first sample, with and without cached kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from suites.gpu.context import Run
from suites.gpu.peers import peer_name

SECONDS = 60
WAYS = (
    ("revstep, no cached kernels", "ours", True),
    ("revstep, kernels cached", "ours", False),
    ("peer", "peer", False),
)


def measure_startup(run: Run) -> None:
    """The policy at batch 1, fp16; each way in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        for name, side, _ in run.pick(WAYS, WAYS[:1]):
            run.attempt(name, 12, _start, name, side, cache)


def _start(run: Run, name: str, side: str, cache: str) -> None:
    """The first process fills the folder of Triton's kernels; the next ones find them there."""
    environment = {**os.environ, "TRITON_CACHE_DIR": cache}
    dry = "dry" if run.dry else "real"
    arguments = (time.time(), run.device, side, dry, run.suite.root)
    done = subprocess.run(
        [sys.executable, "-m", "suites.gpu.first_sample", *map(str, arguments)],
        capture_output=True, text=True, env=environment, timeout=SECONDS, cwd=run.suite.links,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the process ended with code {done.returncode}: {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    run.measured(
        f"policy, fp16: {name}",
        found["seconds"],
        "s to the first sample",
        peer=peer_name() if side == "peer" else None,
        figures={"parts_s": found["parts_s"]},
        parameters={"network": "policy", "batch": 1, "precision": "fp16", "steps": 50},
    )
