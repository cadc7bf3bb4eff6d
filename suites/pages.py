"""Every table and plot of the README and docs that comes from committed rows: `make tables`.

`python -m suites.pages` writes those of the suites anew, in a checkout's root; `--check` only says
which pages differ. docs/proofs.md and docs/zoo.md are written by the commands that they name, which
`make tables` runs too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from suites.checkpoints.table import TABLES as CHECKPOINTS
from suites.compat.table import TABLES as COMPAT
from suites.cpu.table import TABLES as CPU
from suites.gpu.table import TABLES as GPU
from suites.latency.table import TABLES as LATENCY
from suites.precision.table import TABLES as PRECISION
from suites.questions.table import TABLES as QUESTIONS
from suites.regressions.report import TABLES as REGRESSIONS
from suites.service.table import TABLES as SERVICE
from suites.sizes.table import TABLES as SIZES
from suites.startup.table import TABLES as STARTUP
from suites.step.table import KERNELS_TABLES as KERNELS
from suites.step.table import TABLES as STEP
from suites.tables import Writer, write
from suites.verdicts.table import TABLES as VERDICTS

WRITERS: tuple[Writer, ...] = (
    CHECKPOINTS, COMPAT, CPU, GPU, KERNELS, LATENCY, PRECISION, QUESTIONS, REGRESSIONS, SERVICE,
    SIZES, STARTUP, STEP, VERDICTS,
)  # fmt: skip


def stale(root: Path) -> Iterator[Path]:
    """Pages of a checkout with a table that isn't what its rows give."""
    pages = {path for writer in WRITERS for path in writer.pages}
    for path in sorted(pages):
        now = (root / path).read_text(encoding="utf-8")
        if any(writer.page(path, root) != now for writer in WRITERS if path in writer.pages):
            yield path


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the pages, or says which differ; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m suites.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if any differs")
    options = parser.parse_args(arguments)
    if options.check:
        found = list(stale(Path()))
        for path in found:
            print(f"{path}: a table is not what its rows give; run: make tables", file=sys.stderr)
        return int(bool(found))
    changed = sorted({path for writer in WRITERS for path in write(writer, Path())})
    print("\n".join(f"wrote {path}" for path in changed) or "every table is what its rows give")
    return 0


if __name__ == "__main__":
    sys.exit(main())
