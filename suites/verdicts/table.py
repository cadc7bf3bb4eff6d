"""What docs/benchmarks.md has of verdicts; the last row of each difference counts in its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.bench.stats.verdict import VERDICTS
from suites.tables import NOTHING, Tables, line, rows_at, table
from suites.verdicts.measure import NEEDED, RIGHT

Row = Mapping[str, Any]
ROWS, PAGE = Path("bench/results/verdicts.jsonl"), Path("docs/benchmarks.md")


def tries_table(rows: Sequence[Row]) -> str:
    """How often each verdict was given, and how often a right one."""
    lines = [
        f"| the second is | {' | '.join(VERDICTS)} | right | needed | quiet openings |",
        f"|---|{'---:|' * (len(VERDICTS) + 3)}",
    ]
    for row in {row["planted"]: row for row in rows}.values():
        planted, tries = row["planted"], row["tries"]
        said = Counter(each["verdict"] for each in row["each"])
        right = sum(said[name] for name in RIGHT[planted])
        opened = row["openings"] * tries
        quiet = opened - sum(each["disturbed"] for each in row["each"])
        side = f"{planted:.0%} slower" if planted else "the same build"
        counts = [said[name] for name in VERDICTS]
        needed = f"{NEEDED[planted] * tries:.0f} of {tries}"
        lines.append(line(side, *counts, f"{right} of {tries}", needed, f"{quiet} of {opened}"))
    return table(lines)


def apart_line(rows: Sequence[Row]) -> str:
    """How far two engines of one build were apart that were opened once each."""
    ratios = [ratio for row in rows if not row["planted"]
              for each in row["each"] for ratio in each["openings"]]  # fmt: skip
    if not ratios:
        return NOTHING
    most = max(abs(ratio - 1.0) for ratio in ratios)
    return f"Two engines of one build, opened once each, differed by up to {most:.1%} there.\n"


TABLES = Tables[Sequence[Row]](
    suite="verdicts", pages=(PAGE,), rows=lambda root: rows_at(root / ROWS),
    tables={"tries": tries_table, "apart": apart_line},
)  # fmt: skip
