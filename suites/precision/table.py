"""The tables of docs/precision.md; the last row of each network, converter and precision counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.tables import NOTHING, Tables, line, rows_at, table

ROWS, PAGE = Path("bench/results/precision.jsonl"), Path("docs/precision.md")
HEAD = (
    "| network | by | fp16 error | fp16 in ONNX Runtime | products in 16 bits | casts | bf16 error "
    "| onnx's full check | TensorRT-RTX |",
    "|---|---|---:|---:|---:|---:|---:|---|---|",
)


def converters_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for every network and converter: the last row of each and precision counts."""
    own = [r for r in rows if "converter" in r]
    found = {(r["network"], r["converter"], r["precision"]): r for r in own}
    lines = list(HEAD)
    for network, by in dict.fromkeys(key[:2] for key in found):
        fp16, bf16 = (found.get((network, by, p), {}) for p in ("fp16", "bf16"))
        cells = [
            network,
            by,
            _error(fp16.get("error")),
            _error(fp16.get("onnxruntime_cpu")),
            f"{fp16['products_16']} of {fp16['products']}" if "products" in fp16 else "-",
            str(fp16.get("casts", "-")),
            _error(bf16.get("error")),
            _passed(fp16.get("full_check"), bf16.get("full_check")),
            _passed(fp16.get("tensorrt_rtx"), bf16.get("tensorrt_rtx")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _error(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:.1e}"
    return "-" if value is None else "fails"


def _passed(fp16: bool | str | None, bf16: bool | str | None) -> str:
    words = {p: v is True for p, v in (("fp16", fp16), ("bf16", bf16)) if v is not None}
    good = [p for p, ok in words.items() if ok]
    bad = [f"{p} fails" for p, ok in words.items() if not ok]
    return ", ".join([*good, *bad]) or "-"


def times_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The error of a call in bf16 at several times, with and without times in float32."""
    own = last_times(rows)
    times = own[0]["times"] if own else []
    lines = [line("time", *(f"{t:g}" for t in times)), f"|---|{'---:|' * len(times)}"]
    for row in own:
        for way, errors in row["errors"].items():
            lines.append(line(f"{row['network']}, {way}", *(f"{e:.4f}" for e in errors)))
    return table(lines)


def times_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where they were measured."""
    found = []
    for row in last_times(rows):
        machine = row["machine"]
        found.append(
            f"{machine['cpu']}, OpenVINO {machine['versions']['openvino']}; {row['rows']} rows of "
            f"noise; commit {machine['commit']}; {machine['time'][:10]}."
        )
    return "".join(f"{where}\n" for where in dict.fromkeys(found)) or NOTHING


def last_times(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last row of each network about times."""
    return list({r["network"]: r for r in rows if r.get("part") == "times"}.values())


TABLES = Tables[Sequence[Mapping[str, Any]]](
    suite="precision", pages=(PAGE,), rows=lambda root: rows_at(root / ROWS),
    tables={"converters": converters_table, "times": times_table, "machine": times_line},
)  # fmt: skip
