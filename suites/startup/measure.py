"""Start-up of a CPU service beside an earlier build: `python -m suites.startup.measure`.

    python -m suites.startup.measure --old OLD/bin/python --new NEW/bin/python --bundle x.revstep

OLD and NEW are virtual environments of the same Python with the same numpy and onnxruntime, and a
wheel of each build. Every figure is of a fresh process, from before it is made to its first sample.
The old, the new and the bare network calls take turns, pinned to `--cores`, with the files in the
page cache. Networks have a thread a core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from revstep.bench.rows import append_row, new_row
from suites.cpu.turns import Failed
from suites.startup.table import BARE, NEW, OLD, TARGET
from suites.startup.turns import Request, Side, figures, take_turns
from suites.tables import ratio_text

REQUESTS = (
    Request("one step", 1),
    Request("DDIM-20", 20),
    Request("DDIM-20, guidance 1.5", 20, 1.5),
)
MODEL = Path("examples/fashion_mnist_unet")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write each row, and print the ratios beside the target."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.startup.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--old", required=True, help="the Python of the earlier build")
    parser.add_argument("--new", required=True, help="the Python of this one")
    parser.add_argument("--build", help="the earlier build's commit, as the rows name it")
    parser.add_argument("--bundle", type=Path, help="default: the bundled denoiser, exported")
    names = [request.name for request in REQUESTS]
    parser.add_argument("--only", nargs="+", choices=names, help="these requests alone")
    parser.add_argument("--rounds", type=int, default=30, help="processes of each side")
    parser.add_argument("--cores", type=int, default=1, help="that are timed on: the last ones")
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds} is out of range; allowed: 2 or more")
    for python in (options.old, options.new):
        if not Path(python).is_file():
            parser.error(f"{python} is no Python; give one as .venv/bin/python")
    mine = sorted(os.sched_getaffinity(0))
    if not 1 <= options.cores <= len(mine):
        parser.error(f"--cores {options.cores} is out of range; allowed: 1 to {len(mine)}")
    os.sched_setaffinity(0, mine[-options.cores :])  # and of the processes that it makes
    sides = (
        Side(OLD, str(Path(options.old).absolute())),
        Side(NEW, str(Path(options.new).absolute())),
        Side(BARE, str(Path(options.new).absolute()), "bare"),
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or _exported(Path(folder))
        for one in (r for r in REQUESTS if r.name in (options.only or names)):
            request = replace(one, threads=options.cores)
            try:
                _measure(sides, bundle.absolute(), request, options)
            except Failed as error:
                print(f"{request.name}: {error}")
                return 1
    return 0


def _measure(
    sides: Sequence[Side], bundle: Path, request: Request, options: argparse.Namespace
) -> None:
    busy = os.getloadavg()[0]
    found = figures(take_turns(sides, bundle, request, options.rounds), OLD, NEW)
    row = new_row(
        "startup",
        {
            "name": request.name,
            "bundle": bundle.name,
            "steps": request.steps,
            "guidance": request.guidance,
            "cores": request.threads,
            "old_build": options.build,
            "load_average": [busy, os.getloadavg()[0]],
            **found,
        },
    )
    if options.output is not None:
        append_row(options.output, row)
    ratios = found["over_old"]
    print(
        f"{request.name}, {request.threads} core(s): {ratio_text(ratios[NEW])} of the earlier "
        f"build's time (at most {TARGET}), the bare calls {ratio_text(ratios[BARE])}"
    )


def _exported(folder: Path) -> Path:
    """The bundled denoiser, exported and checked as ``revstep demo`` does."""
    from revstep.export import compile_bundle, export_diffusers

    bundle = folder / f"{MODEL.name}.revstep"
    export_diffusers(MODEL, bundle, null_class=10)
    compile_bundle(bundle, target="onnxruntime", threads=1)
    return bundle


if __name__ == "__main__":
    raise SystemExit(main())
