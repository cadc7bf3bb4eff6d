"""Sections in a process of their own: `suite.py` starts one for each; none harms another."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from suites.gpu.context import Run
from suites.gpu.rows import RowFile
from suites.gpu.sections import SECTIONS, Section

__all__ = ["main", "run_section"]


def run_section(name: str, run: Run, sections: Mapping[str, Section] = SECTIONS) -> int:
    """Runs one section; what it raises becomes a row. Returns how many of its cases failed."""
    try:
        sections[name].measure(run)
    except Exception as error:
        traceback.print_exc()
        text = (str(error).strip() or "no message").splitlines()[0][:500]
        run.rows.add(name, name, "failed", reason=f"{type(error).__name__}: {text}")
        run.failures += 1
    return run.failures


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 where a case failed."""
    parser = argparse.ArgumentParser(prog="python -m suites.gpu.one_process")
    parser.add_argument("sections", nargs="+")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--links", type=Path, required=True)
    parser.add_argument("--until", type=float, required=True, help="monotonic clock")
    parser.add_argument("--commit")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)
    if options.dry_run:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # torch.compile then gives back what it is given
    import torch

    device = torch.device("cpu") if options.dry_run else torch.device("cuda", 0)
    rows = RowFile(
        options.rows, options.run, dry=options.dry_run, root=options.root, commit=options.commit
    )
    failures = 0
    for name in options.sections:
        run = Run(name, rows, device, options.until, options.root, options.links)
        failures += run_section(name, run)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
