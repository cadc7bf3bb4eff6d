"""Checkpoints of every kind: `python -m suites.checkpoints.measure --output FILE.jsonl`.

Each is exported, checked in ONNX Runtime and OpenVINO, built by TensorRT-RTX and run whole, in a
process of its own; what fails leaves what it said. Kinds whose library isn't here are left out, and
keep their rows. Half a minute a kind on two cores; rows go to bench/results/checkpoints.jsonl, of
which `make tables` makes the page.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import revstep
from revstep.bench.rows import append_row, new_row
from revstep.engine.system.machine import package_version, processor
from suites.checkpoints.kind import Kind
from suites.checkpoints.kinds import all_kinds
from suites.checkpoints.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(revstep.__file__).resolve().parents[1]  # the checkout's, or what is installed
PACKAGES = ("torch", "diffusers", "transformers", "onnxruntime", "openvino", "tensorrt-rtx")
SECONDS = 900.0  # of one kind


def measured(kind: Kind, skipped: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a kind's row: what each stage gave or said, and the seconds of all."""
    begun = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "row.json"
        command = [sys.executable, "-P", "-m", "suites.checkpoints.worker", kind.name, str(target)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(ROOT), *_own_path()]),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        try:
            done = subprocess.run(
                [*command, *skipped], env=environment, capture_output=True, text=True,
                errors="replace", timeout=SECONDS, check=False, cwd=folder,
            )  # fmt: skip
            ended = _ended(done)
        except subprocess.TimeoutExpired:
            ended = f"took more than {SECONDS:g} s"
        text = target.read_text("utf-8") if target.exists() else '{"stages": {}, "now": ""}'
    row = json.loads(text)
    stages: dict[str, Any] = row["stages"]
    if row["now"] is not None:
        stages[row["now"] if row["now"] in [s.name for s in STAGES] else "export"] = {"said": ended}
    packages = {name: version for name in PACKAGES if (version := package_version(name))}
    seconds = round(perf_counter() - begun, 1)
    return {"against": kind.against, "source": kind.source, "stages": stages, "seconds": seconds,
            "packages": packages}  # fmt: skip


def _own_path() -> list[str]:
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def _ended(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the process ended by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:300] if lines else f"the process ended with code {done.returncode}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes each row and prints it."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.checkpoints.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = all_kinds()
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    parser.add_argument("--only", nargs="+", choices=[k.name for k in kinds], help="these kinds")
    parser.add_argument("--list", action="store_true", help="print the kinds")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(kind.name for kind in kinds))
        return 0
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for kind in kinds:
        if options.only and kind.name not in options.only:
            continue
        if kind.missing:
            print(f"   left out  {kind.name}: no {', '.join(kind.missing)} here", flush=True)
            continue
        found = measured(kind)
        fields = {"run": now, "part": "checkpoints", "name": kind.name, "quick": False}
        if options.output is not None:
            row = new_row("checkpoints", {**fields, **found, "processor": processor()}, ROOT)
            append_row(options.output, row)
        bad = {k: v["said"] for k, v in found["stages"].items() if "said" in v}
        print(f"{found['seconds']:6.1f} s  {kind.name}{f': {bad}' if bad else ''}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
