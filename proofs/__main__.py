"""Runs the proofs and writes docs/proofs.md with its plots: ``python -m proofs``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from proofs.pages.proofs import page
from proofs.quality import quality
from proofs.theory.convergence import convergence
from proofs.theory.descriptions import descriptions
from proofs.theory.flow_maps import flow_maps
from proofs.theory.fused_runs import fused_runs
from proofs.theory.sampler_laws import laws
from proofs.theory.training_set import training_set
from revstep.bench.machine import machine_info
from revstep.bench.rows import read_rows

RESULTS = Path("bench") / "results"
DOCS = Path("docs")
PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "convergence": convergence,
    "laws": laws,
    "training_set": training_set,
    "descriptions": descriptions,
    "flow_maps": flow_maps,
    "fused_runs": fused_runs,
}
DIGITS = 4


def rounded(value: Any) -> Any:
    """The same plain values with every float to four digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all parts, or those named, in a checkout; the page is written from all there is."""
    parser = argparse.ArgumentParser(prog="python -m proofs", description=__doc__)
    names = [*PARTS, "quality", "page"]
    parser.add_argument("--only", nargs="+", choices=names, help="parts to run; page runs none")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of proofs.md and images/")
    options = parser.parse_args(arguments)
    wanted = options.only or names
    path, quality_path = options.results / "proofs.json", options.results / "quality_steps.jsonl"
    for folder in (options.results, options.docs):
        folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in (name for name in PARTS if name in wanted):
        print(f"{name} ...", flush=True)
        results[name] = rounded(PARTS[name]())
        results["machine"] = machine_info()
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if "quality" in wanted:
        lines = []
        for row in quality():
            lines.append(json.dumps(row) + "\n")
            print(lines[-1], end="", flush=True)
        quality_path.write_text("".join(lines), encoding="utf-8")  # anew, once all are there
    rows = read_rows(quality_path) if quality_path.is_file() else []
    (options.docs / "proofs.md").write_text(page(results, rows), encoding="utf-8")
    from proofs.pages.plots import draw_plots

    draw_plots(results, rows, options.docs / "images")
    print(f"wrote {options.docs / 'proofs.md'}")


if __name__ == "__main__":
    main()
