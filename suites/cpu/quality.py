"""What bf16 costs in quality: images of the bundled U-Net, scored by the example's classifier."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from suites.cpu.context import Measurement
from suites.cpu.turns import OURS, ROOT, Failed, Process, last_words

IMAGES, STEPS, GUIDANCE = 1000, 20, 1.5
SCORE = ROOT / "examples" / "fashion_mnist" / "score.py"


def measure(run: Measurement) -> None:
    """One row."""
    count = 20 if run.quick else IMAGES
    run.case("quality", f"unet, {count} images", partial(_measured, run, count))


def _measured(run: Measurement, count: int) -> dict[str, Any]:
    bundle = run.compiled("unet")
    options = {"bundle": str(bundle), "count": count, "steps": STEPS, "guidance": GUIDANCE}
    scores: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    processes = {p: Process(OURS, None) for p in run.precisions}
    try:  # side by side, on all cores: what is timed here is nothing
        for precision, process in processes.items():
            asked = {**options, "precision": precision}
            process.ask(do="open", name="images", kind="images", options=asked)
            process.send(do="save", name="images", file=str(run.folder / f"{precision}.npy"))
        for precision, process in processes.items():
            try:
                process.reply()
                scores[precision] = score(run.folder / f"{precision}.npy")
            except Failed as error:
                failed[precision] = str(error)
    finally:
        for process in processes.values():
            process.close()
    distance = {p: found["frechet_distance"] for p, found in scores.items()}
    apart = abs(distance["bf16"] - distance["fp32"]) if len(distance) == 2 else None
    return {**options, "bundle": bundle.name, "scores": scores, "apart": apart, "failed": failed}


def score(images: Path) -> dict[str, float]:
    """Fréchet distance and accuracy; the labels are 0 to 9 in turn."""
    done = subprocess.run(
        [sys.executable, str(SCORE), str(images)],
        env=OURS.environment(), capture_output=True, text=True,
    )  # fmt: skip
    if not done.stdout:  # 1 is a score below its own limits
        raise Failed(last_words(done.stderr))
    found = json.loads(done.stdout)
    return {name: found[name] for name in ("frechet_distance", "accuracy", "real_accuracy")}
