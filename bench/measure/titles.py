"""What a row's cell is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def cell_name(row: Row) -> str:
    """``onnxruntime fp32 ddim-20 batch 16``, as it ran."""
    return " ".join(filter(None, cell_parts(row)))


def cell_parts(row: Row) -> tuple[str, ...]:
    """The parts of its name: backend, precision, sampler and calls, guidance, batch."""
    cell, engine = row["cell"], row["engine"]
    calls = cell["steps"] or cell["network_calls"]
    return (
        str(engine.get("library", engine["backend"])),
        str(engine.get("precision", "")),
        f"{cell['sampler'] or 'default'}-{calls}",
        f"guidance {cell['guidance']:g}" if cell["guidance"] != 1.0 else "",
        f"batch {cell['batch']}",
    )


def short_names(rows: Sequence[Row]) -> list[str]:
    """Names without the parts that all rows have; whole names where that tells none apart."""
    parts = [(row["bundle"]["name"], *cell_parts(row)) for row in rows]
    differ = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    short = [
        " ".join(part for part, kept in zip(each, differ, strict=True) if kept and part)
        for each in parts
    ]
    return [name or cell_name(row) for name, row in zip(short, rows, strict=True)]


def place_of_largest(versus: Row) -> str:
    """Where a baseline's difference is largest: in ``step 3``, or ``samples``; empty: nowhere."""
    if not versus["largest_difference"]:
        return ""
    steps = versus["differences"]["steps"]
    if max(steps) < versus["differences"]["final"]:
        return "samples"
    return f"step {steps.index(max(steps)) + 1}"


def part_names(found: Row) -> list[tuple[str, str]]:
    """Names of a row's ``parts`` as readers have them, and as the row does; the whole at the end.

    What lies between them is ``rest``. The picture encoder, which a request without pictures
    doesn't run, follows the whole.
    """
    encoders = [name for name in found["times"] if name.startswith("encoder.")]
    named = [
        *((name.replace("encoder.", "encoder "), name) for name in encoders),
        ("loop", "loop"), ("decoder", "decoder"), ("the rest", "rest"),
        ("whole request", "request"), ("picture encoder (start=)", "picture_encoder"),
    ]  # fmt: skip
    return [(name, part) for name, part in named if part == "rest" or part in found["times"]]
