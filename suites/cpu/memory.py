"""The most memory of a process that samples the bundled U-Net at batch 16."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from suites.cpu.context import BASELINE, Measurement
from suites.cpu.turns import OURS, Failed, Process, Tree

OPTIONS = {"batch": 16, "steps": 4, "guidance": 1.5}
PROCESSES = 3  # of each kind


def measure(run: Measurement) -> None:
    """One row: the exported bundle in both builds, the chosen forms in this one."""
    run.case("memory", "unet, batch 16, guidance 1.5", partial(_measured, run))


def _measured(run: Measurement) -> dict[str, Any]:
    plain = run.bundle("unet")
    kinds: dict[str, tuple[Tree, Path, str]] = {"as exported": (OURS, plain, "fp32")}
    if run.baseline is not None:
        kinds[BASELINE] = (run.baseline, plain, "fp32")
    failed = {}
    try:
        kinds |= {f"chosen, {p}": (OURS, run.compiled("unet"), p) for p in run.precisions}
    except Failed as error:
        failed["chosen"] = str(error)
    peaks: dict[str, list[int]] = {name: [] for name in kinds}
    for _ in range(1 if run.quick else PROCESSES):
        for name, (tree, bundle, precision) in kinds.items():
            try:
                peaks[name].append(_peak(run, tree, bundle, precision))
            except Failed as error:
                failed[name] = str(error)
    megabytes = {name: median(found) / 2**20 for name, found in peaks.items() if found}
    today = megabytes.get(BASELINE)
    ratios = {n: size / today for n, size in megabytes.items() if n != BASELINE and today}
    return {"mebibytes": megabytes, "ratios": ratios, "failed": failed, **OPTIONS}


def _peak(run: Measurement, tree: Tree, bundle: Path, precision: str) -> int:
    """Of one fresh process, in bytes."""
    process = Process(tree, run.core)
    try:
        options = {"bundle": str(bundle), "precision": precision, **OPTIONS}
        process.ask(do="open", name="run", kind="sample", options=options)
        process.ask(do="save", name="run", file=str(run.folder / "memory.npy"))
        return int(process.ask(do="peak")["bytes"])
    finally:
        process.close()
