"""The tables of docs/checkpoints.md, and that of docs/trainers.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.checkpoints.kinds import all_kinds
from suites.checkpoints.onnx_kinds import EQUINOX
from suites.checkpoints.stages import STAGES
from suites.checkpoints.trainers import trainer_kinds
from suites.cpu.table import last_rows
from suites.tables import NOTHING, Tables, line, rows_at, table

Row = Mapping[str, Any]
ROWS = Path("bench/results/checkpoints.jsonl")
PAGES = (Path("docs/checkpoints.md"), Path("docs/trainers.md"))
TRAINED = {
    "onnxruntime fp32": "a call, fp32", "onnxruntime fp16": "a call, fp16",
    "whole": "a run, fp32",
}  # fmt: skip
"""Stages that docs/trainers.md shows."""


def kinds_table(rows: Sequence[Row]) -> str:
    """A line a kind; what failed has the number of its note."""
    heads = ["checkpoint", "comes in as", *(s.title for s in STAGES)]
    lines = [line(*heads), f"|---|---|{'---:|' * len(STAGES)}"]
    notes = _notes(rows)
    for row in rows:
        cells = (_cell(row["stages"].get(s.name), notes) for s in STAGES)
        lines.append(line(row["name"], row["source"], *cells))
    return table(lines)


def trainers_table(rows: Sequence[Row]) -> str:
    """How far networks of other training libraries are off."""
    names = [*(kind.name for kind in trainer_kinds()), EQUINOX]
    lines = [line("network", *TRAINED.values()), f"|---|{'---:|' * len(TRAINED)}"]
    for row in (row for row in rows if row["name"] in names):
        found = [row["stages"].get(stage) or {} for stage in TRAINED]
        cells = (f"{cell['error']:.0e}" if "error" in cell else "no" for cell in found)
        lines.append(line(row["name"], *cells))
    return table(lines)


def notes_list(rows: Sequence[Row]) -> str:
    """What was said, by the table's numbers; and what whole runs were held to."""
    notes = _notes(rows)
    lines = [f"{number}. {_escaped(text)}" for text, number in notes.items()]
    return "\n".join(lines) + "\n" if lines else "Nothing was refused.\n"


def against_list(rows: Sequence[Row]) -> str:
    """What the whole runs were held to."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["against"], []).append(row["name"])
    lines = [f"- {what}: {'; '.join(names)}" for what, names in found.items()]
    return "\n".join(lines) + "\n" if lines else NOTHING


def machine_line(rows: Sequence[Row]) -> str:
    """With what the rows were measured."""
    found = []
    for row in rows:
        parts = ", ".join(f"{name} {version}" for name, version in row["packages"].items())
        found.append(f"{row['processor']}; {parts}; {row['run'][:10]}.")
    return "".join(f"{where}\n" for where in dict.fromkeys(found)) or NOTHING


def left_list(rows: Sequence[Row]) -> str:
    """The kinds without a row."""
    left = [k.name for k in all_kinds() if k.name not in {row["name"] for row in rows}]
    return f"Not measured yet: {'; '.join(left)}.\n" if left else ""


BLOCKS: dict[str, Callable[[Sequence[Row]], str]] = {
    "kinds": kinds_table,
    "notes": notes_list,
    "against": against_list,
    "machine": machine_line,
    "left": left_list,
    "trainers": trainers_table,
}


def known_rows(root: Path) -> list[Row]:
    """The last row of each kind that there is, in the order of the kinds."""
    names = [kind.name for kind in all_kinds()]
    rows = [row for row in last_rows(rows_at(root / ROWS)) if row["name"] in names]
    return sorted(rows, key=lambda row: names.index(row["name"]))


TABLES = Tables[Sequence[Row]](suite="checkpoints", pages=PAGES, tables=BLOCKS, rows=known_rows)


def _notes(rows: Sequence[Row]) -> dict[str, int]:
    cells = [row["stages"].get(stage.name, {}) for row in rows for stage in STAGES]
    said = dict.fromkeys(_kept(cell["said"]) for cell in cells if "said" in cell)
    return {text: number for number, text in enumerate(said, 1)}


def _kept(text: str) -> str:
    """What was said, without what to do with a bundle that there is."""
    return text.split("; the bundle is unchanged")[0].replace("ParityError: parity: ", "")


def _cell(cell: Row | None, notes: Mapping[str, int]) -> str:
    if cell is None:
        return "-"
    if "said" in cell:
        return f"no ({notes[_kept(cell['said'])]})"
    return f"{cell['error']:.0e}" if "error" in cell else "yes"


def _escaped(text: str) -> str:
    """Without what Markdown would take for itself."""
    return "".join(f"\\{c}" if c in "*_<>|`[]" else c for c in text)
