"""What won on a CPU, and what it was measured against: a table for each number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from revstep.commands.output import out
from revstep.engine.bundle.choice import MEASURED

if TYPE_CHECKING:
    from revstep.engine.bundle.entry import CompiledEntry


def print_choice(entry: CompiledEntry) -> None:
    """Prints the table of an entry's candidates, and why those without figures have none."""
    assert entry.choice is not None
    typer.echo(choice_line(entry))
    candidates = entry.choice.candidates
    out().print(choice_table(candidates))
    for line in reasons(candidates):
        typer.echo(f"  {line}")


def choice_line(entry: CompiledEntry) -> str:
    """What runs a number of rows, or a part, and how fast it is beside the default."""
    choice = entry.choice
    assert choice is not None
    rewrites = f"rewritten ({', '.join(choice.rewrites)})" if choice.rewrites else "as exported"
    own = next((c for c in choice.candidates if c["status"] == "chosen"), {})
    speed = _times_as_fast(own, choice.candidates)
    what = f"{entry.runtime} {entry.version}, {entry.precision}, {_threads(choice.threads)}"
    time = f"{_ms(choice.seconds * 1e3)} ms a call{f', {speed:.2f} x the default' if speed else ''}"
    which = f"batch {entry.batch[1]}" if entry.part is None else entry.part
    return f"{which}: {what}, graph {rewrites}: {time}"


def choice_table(candidates: Sequence[dict[str, Any]]) -> Table:
    """A row for each candidate that was timed, the fastest first.

    ``speed`` is beside the default, what runs where nothing was measured; ``call`` and ``run`` are
    the errors of one forward and of a DDIM-20 run.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("runtime", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("graph", overflow="fold")
    for heading in ("thr", "ms", "low", "high", "speed", "call", "run"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    timed = sorted((c for c in candidates if "ms" in c), key=lambda c: _rank(c, candidates))
    every = _every(candidates)
    for c in timed:
        speed = _times_as_fast(c, candidates)
        times = [_ms(c[name]) for name in ("ms", "low_ms", "high_ms")]
        errors = [_error(c, name) for name in ("forward", "ddim20")]
        table.add_row(
            c["runtime"], c["precision"], _form(c["rewrites"], every), str(c["threads"]), *times,
            f"{speed:.2f}" if speed else "-", *errors, c["status"],
        )  # fmt: skip
    return table


def reasons(candidates: Sequence[dict[str, Any]]) -> list[str]:
    """What ``rewritten`` means, and a line for each candidate that was not timed."""
    every = _every(candidates)
    lines = [f"rewritten: {', '.join(every)}"] if len(every) > 1 else []
    for c in candidates:
        if c["status"] in MEASURED or "reason" not in c:
            continue
        parts = [c["runtime"], c["precision"]]
        if c["status"] != "missing":
            parts += [_threads(c["threads"]), *(["rewritten"] if c["rewrites"] else [])]
        lines.append(f"{', '.join(parts)}: {c['status']}: {c['reason']}")
    return lines


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _rank(candidate: dict[str, Any], candidates: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """By the speed that is shown; where none is known, by the time."""
    return -(_times_as_fast(candidate, candidates) or 0.0), candidate["ms"]


def _times_as_fast(candidate: dict[str, Any], candidates: Sequence[dict[str, Any]]) -> float | None:
    """How many times as fast as the default, the first of all; None where that isn't known."""
    default = candidates[0] if candidates else {}
    for name in ("relative", "ms"):  # by rounds in common, if there are any
        own, its = candidate.get(name), default.get(name)
        if own is not None and its is not None:
            return float(its / own)
    return None


def _every(candidates: Sequence[dict[str, Any]]) -> list[str]:
    """All rewrites that were timed together."""
    return max((c["rewrites"] for c in candidates if "ms" in c), key=len, default=[])


def _form(rewrites: Sequence[str], every: Sequence[str]) -> str:
    """How a graph was rewritten: ``rewritten`` (by all), ``no mish``, or the names."""
    left_out = [name for name in every if name not in rewrites]
    if not rewrites:
        return "exported"
    if not left_out:
        return "rewritten" if len(every) > 1 else every[0]
    return f"no {left_out[0]}" if len(left_out) == 1 else ", ".join(rewrites)


def _error(candidate: dict[str, Any], name: str) -> str:
    found = candidate.get("parity", {}).get(name)
    return "-" if not isinstance(found, dict) or "error" not in found else f"{found['error']:.0e}"


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
