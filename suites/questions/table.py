"""The tables of the questions in docs/benchmarks.md; the last row of each case counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from suites.questions.compare import OURS
from suites.questions.measure import QUESTIONS
from suites.tables import Tables, line, rows_at, seconds_text, table, where_measured

Row = Mapping[str, Any]
ROWS, PAGE = Path("bench/results/questions.jsonl"), Path("docs/benchmarks.md")


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """The last row of each question and case."""
    return list({(row["question"], row["case"]): row for row in rows}.values())


def question_table(question: str, rows: Sequence[Row]) -> str:
    """A case's time, each baseline's, and how many times as fast ours is, with an interval."""
    own = [row for row in last_rows(rows) if row["question"] == question]
    others = list(dict.fromkeys(name for row in own for name in row["ratios"]))
    heads = [cell for name in others for cell in (name, "as fast (95 %)")]
    lines = [line("case", OURS, *heads), f"|---|{'---:|' * (1 + len(heads))}"]
    for row in own:
        cells = [cell for name in others for cell in _beside(row, name)]
        lines.append(line(row["case"], seconds_text(row["seconds"][OURS]["median"]), *cells))
    return table(lines)


def _beside(row: Row, name: str) -> tuple[str, str]:
    if name not in row["ratios"]:
        return "-", "-"
    over = row["ratios"][name]
    ratio = f"{over['ratio']:.3g} ({over['low']:.3g} to {over['high']:.3g})"
    return seconds_text(row["seconds"][name]["median"]), ratio


def machine_line(rows: Sequence[Row]) -> str:
    """Where and with what the rows were measured, and how quiet it was."""
    return where_measured(last_rows(rows), ("numpy", "onnxruntime", "torch", "diffusers"))


BLOCKS: dict[str, Callable[[Sequence[Row]], str]] = {
    **{question: partial(question_table, question) for question in QUESTIONS},
    "machine": machine_line,
}
TABLES = Tables[Sequence[Row]](
    suite="questions", pages=(PAGE,), tables=BLOCKS, rows=lambda root: rows_at(root / ROWS)
)
