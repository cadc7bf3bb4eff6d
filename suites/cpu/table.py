"""The tables of CPU figures, and the plot; the last row of each part and name counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.cpu.context import BASELINE, COMPILED, EAGER
from suites.cpu.grid import FORMS, form_seconds, title_of
from suites.cpu.targets import Outcome, outcomes
from suites.tables import NOTHING, Tables, line, rows_at, seconds_text, table

Row = Mapping[str, Any]
ROWS, PLOT = Path("bench/results/cpu.jsonl"), Path("docs/images/cpu.png")
PAGES = (Path("README.md"), Path("docs/cpu.md"), Path("docs/benchmarks.md"))


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """The last row of each part and name; trials are left out."""
    found = {(row["part"], row["name"]): row for row in rows if not row["quick"]}
    return list(found.values())


def of_part(rows: Sequence[Row], part: str) -> list[Row]:
    """The rows of one part that have figures."""
    return [row for row in rows if row["part"] == part and "reason" not in row]


def runs_table(rows: Sequence[Row]) -> str:
    """Whole runs: this tree's time, and how many times as fast it is as the others."""
    lines = [
        f"| run | precision | revstep | as fast as the {BASELINE} | as {EAGER} | as {COMPILED} |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in of_part(rows, "runs"):
        for precision, ratios in row["ratios"].items():
            if precision in row["seconds"]:
                own = seconds_text(row["seconds"][precision]["p50"])
                cells = [_ratio(ratios.get(name)) for name in (BASELINE, EAGER, COMPILED)]
                lines.append(line(row["name"], precision, own, *cells))
    return table(lines)


def grid_table(rows: Sequence[Row]) -> str:
    """One network call in every form, and what compile chose."""
    lines = [
        f"| network | batch | {' | '.join(FORMS.values())} | chosen in fp32 | chosen with bf16 |",
        f"|---|---:|{'---:|' * len(FORMS)}---|---|",
    ]
    for row in of_part(rows, "grid"):
        found = form_seconds(row)
        times = [seconds_text(found[title]) if title in found else "-" for title in FORMS.values()]
        chosen = [_choice(row, name) for name in ("fp32", "auto")]
        lines.append(line(row["network"], row["batch"], *times, *chosen))
    return table(lines)


def _choice(row: Row, name: str) -> str:
    judged = row["choice"].get(name)
    if judged is None:
        return "-"
    over = judged.get("over_best")
    return title_of(row["forms"][judged["form"]]) + (
        "" if over is None else f", {over['ratio']:.2f}"
    )


def targets_table(rows: Sequence[Row]) -> str:
    """What was to be reached, and what was."""
    lines = ["| what | target | measured | 95 % interval | met |", "|---|---:|---:|---|---|"]
    found = (outcome for outcome in outcomes(rows) if outcome.reason != "not measured")
    lines += map(_target_line, found)
    return table(lines)


def _target_line(outcome: Outcome) -> str:
    target, value, around = outcome.target, outcome.value, ""
    if outcome.interval is not None:
        around = f"{outcome.interval[0]:.2f} to {outcome.interval[1]:.2f}"
    met = {True: "yes", False: "**no**", None: "no figure"}[outcome.met]
    shown = "-" if value is None else target.shown(value)
    return line(target.what, target.limit, shown, around, met)


def loop_table(rows: Sequence[Row]) -> str:
    """What a run costs beside its network."""
    lines = ["| what | revstep | prepared run | last landed build |", "|---|---:|---:|---:|"]
    for row in of_part(rows, "loop"):
        over = row.get("over_bare")
        if over is not None:
            names = ("sample", "prepared", f"{BASELINE}, sample")
            cells = [_ratio(over.get(name)) for name in names]
            lines.append(line(f"{row['name']}: over {row['steps']} bare calls", *cells))
            continue
        for what, title in (("fixed", "a run's fixed cost"), ("a step", "each step")):
            names = (what, f"prepared, {what}", f"{BASELINE}, {what}")
            seconds = [row["seconds"].get(name) for name in names]
            lines.append(line(title, *(seconds_text(s["p50"]) if s else "-" for s in seconds)))
    return table(lines)


def tracing_table(rows: Sequence[Row]) -> str:
    """Times of the first run of a sampler, before its first step."""
    lines = ["| sampler | revstep | last landed build |", "|---|---:|---:|"]
    for row in of_part(rows, "tracing"):
        seconds = [row["seconds"].get(name) for name in ("revstep", BASELINE)]
        lines.append(line(row["name"], *(seconds_text(s["p50"]) if s else "-" for s in seconds)))
    return table(lines)


def quality_table(rows: Sequence[Row]) -> str:
    """Scores of the same images in fp32 and bf16."""
    lines = ["| precision | images | Fréchet distance | accuracy |", "|---|---:|---:|---:|"]
    for row in of_part(rows, "quality"):
        for precision, score in row["scores"].items():
            distance, accuracy = f"{score['frechet_distance']:.2f}", f"{score['accuracy']:.3f}"
            lines.append(line(precision, f"{row['count']:,}", distance, accuracy))
    return table(lines)


def int8_table(rows: Sequence[Row]) -> str:
    """Scores and speed of a network that was quantised after training."""
    lines = [
        "| products | images | Fréchet distance | accuracy | as fast as fp32 |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in of_part(rows, "int8"):
        for name, score in row["scores"].items():
            distance, accuracy = f"{score['frechet_distance']:.2f}", f"{score['accuracy']:.3f}"
            fast = f"{row['as_fast_as_fp32'][name]:.2f}"
            lines.append(line(name, f"{row['count']:,}", distance, accuracy, fast))
    return table(lines)


def memory_table(rows: Sequence[Row]) -> str:
    """Peak memory of processes."""
    lines = ["| process | MiB | over the last landed build |", "|---|---:|---:|"]
    for row in of_part(rows, "memory"):
        for name, size in row["mebibytes"].items():
            ratio = row["ratios"].get(name)
            lines.append(line(name, f"{size:.0f}", "" if ratio is None else f"{ratio:.2f}"))
    return table(lines)


def machine_line(rows: Sequence[Row]) -> str:
    """Where and with what the rows were measured."""
    found = []
    for row in (row for row in rows if row["baseline"]):
        machine, versions = row["machine"], row["machine"]["versions"]
        names = ("onnxruntime", "openvino", "torch", "diffusers")
        parts = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
        found.append(
            f"{row['processor']}; one thread on one core; {parts}; commit {machine['commit']}, "
            f"the last landed build {row['baseline']}; {row['run'][:10]}."
        )
    return "".join(f"{where}\n" for where in dict.fromkeys(found)) or NOTHING


BLOCKS: dict[str, Callable[[Sequence[Row]], str]] = {
    "runs": runs_table,
    "grid": grid_table,
    "targets": targets_table,
    "loop": loop_table,
    "tracing": tracing_table,
    "quality": quality_table,
    "int8": int8_table,
    "memory": memory_table,
    "machine": machine_line,
}


def _ratio(found: Row | None) -> str:
    return "-" if found is None else f"{found['ratio']:.2f}"


def _draw(rows: Sequence[Row], root: Path) -> None:
    if of_part(rows, "grid"):
        from suites.cpu.plot import draw

        draw(of_part(rows, "grid"), root / PLOT)


TABLES = Tables[Sequence[Row]](
    suite="cpu", pages=PAGES, tables=BLOCKS, rows=lambda root: last_rows(rows_at(root / ROWS)),
    plot=_draw,
)  # fmt: skip
