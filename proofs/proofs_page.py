"""docs/proofs.md, rendered from the results alone: no number on it is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from proofs import proofs_text as text_of
from proofs.descriptions import NOT_COMPARED
from proofs.quality import same_but_seed

__all__ = ["page"]


def page(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The page.

    Args:
        results: Part -> what it found; parts that are missing are left out.
        rows: Of quality against steps; none leaves the section out.
    """
    parts = [text_of.INTRODUCTION]
    sections = {
        "convergence": _convergence,
        "laws": _laws,
        "training_set": _training_set,
        "descriptions": _descriptions,
        "fused_runs": _fused,
    }
    parts += [section(results[name]) for name, section in sections.items() if name in results]
    if rows:
        parts.append(_quality(rows))
    return "".join(parts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers: int = 1) -> str:
    """A Markdown table; the columns from ``numbers`` on are aligned right."""
    rule = "|".join("---" if n < numbers else "---:" for n in range(len(heads)))
    lines = [f"| {' | '.join(heads)} |", f"|{rule}|"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _convergence(found: dict[str, Any]) -> str:
    levels = {tuple(pair): [] for pair in found["levels"].values()}  # type: dict[Any, list[str]]
    for even, pair in found["levels"].items():
        levels[tuple(pair)].append(even)
    said = "; ".join(f"from {a:g} to {b:g} ({', '.join(e)})" for (a, b), e in levels.items())
    text = text_of.CONVERGENCE.format(
        reference_error=found["reference_error"],
        levels=said,
        trajectories=found["trajectories"],
        steps=", ".join(map(str, found["steps"])),
    )
    rows = [
        (
            f"`{row['solver']}`",
            f"{row['process']}, {row['prediction']}",
            row["even"],
            row["order"],
            f"{row['own']['slope']:.2f}",
            f"{row['exact']['slope']:.2f}" if "exact" in row else "",
            f"{row.get('exact', row['own'])['errors'][-1]:.1e}",
        )
        for row in found["rows"]
    ]
    heads = ("solver", "process", "even in", "order", "own start", "exact start", "last error")
    return text + _table(heads, rows, 3) + text_of.CONVERGENCE_NOTES


def _laws(found: dict[str, Any]) -> str:
    high, low = found["levels"]
    chance = [v for row in found["rows"] for v in row["mixture"]["by_chance"]]
    text = text_of.LAWS.format(high=high, low=low, samples=found["samples"], level=found["level"])
    heads = ("sampler", "slope, one mode", "steps", "distance", "p", "mean", "covariance")
    rows = [_law(row) for row in found["rows"] if not row["control"]]
    wrong = [_law(row) for row in found["rows"] if row["control"]]
    average = sum(chance) / len(chance)
    said = f"\nBy chance the distance is {average:.3f} on average.\n"
    return text + _table(heads, rows) + said + text_of.CONTROLS + _table(heads, wrong)


def _law(row: dict[str, Any]) -> tuple[object, ...]:
    mixture = row["mixture"]
    again = "" if mixture["again"] is None else f", again {mixture['again']:.3f}"
    return (
        f"`{row['sampler']}`",
        f"{row['one_mode']['slope']:.2f}" if "one_mode" in row else "",
        ", ".join(map(str, mixture["steps"])),
        ", ".join(f"{v:.3f}" for v in mixture["distance"]),
        f"{mixture['p'][-1]:.3f}" + again,
        f"{mixture['mean'][-1]:.1f}",
        f"{mixture['covariance'][-1]:.1f}",
    )


def _training_set(found: dict[str, Any]) -> str:
    keys = {name: found[name] for name in ("points", "elements", "runs", "steps")}
    ends = _table(
        ("sampler", "farthest", f"points reached of {found['points']}"),
        (
            (f"`{r['sampler']}`", f"{r['farthest']:.1e}", r["points_reached"])
            for r in found["ended_on"]
        ),
    )
    heads = ("sigma / alpha at the start", "probability of its point", "returned to it")
    back = _table(
        heads,
        (
            (f"{r['level']:.2f}", f"{r['own_point_probability']:.4f}", f"{r['returned']:.3f}")
            for r in found["returned"]
        ),
        0,
    )
    return text_of.TRAINING_SET.format(**keys) + ends + text_of.TRAINING_SET_NOTES + back


def _descriptions(found: dict[str, Any]) -> str:
    high, low, _ = found["levels"]
    text = text_of.DESCRIPTIONS.format(
        high=high, low=low, steps=found["steps"], samples=found["samples"]
    )
    same = _table(
        ("sampler", "largest difference"),
        ((f"`{r['sampler']}`", f"{r['difference']:.0e}") for r in found["invariant"]),
    )
    steps = found["dependent"][0]["steps"]
    other = _table(
        ("sampler", "reason", *(f"{n} steps" for n in steps)),
        (
            (f"`{r['sampler']}`", r["reason"], *(f"{v:.3f}" for v in r["difference"]))
            for r in found["dependent"]
        ),
        2,
    )
    left = "; ".join(f"`{name}` ({reason})" for name, reason in NOT_COMPARED.items())
    return text + same + text_of.DESCRIPTIONS_NOTES + other + f"\nNot compared: {left}.\n"


def _fused(found: dict[str, Any]) -> str:
    heads = ("distance", "by chance", "p")

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return f"{row['distance']:.3f}", f"{row['by_chance']:.3f}", f"{row['p']:.3f}"

    text = text_of.FUSED.format(samples=found["samples"], steps=found["steps"])
    text += _table(
        ("sampler", *heads), ((f"`{row['sampler']}`", *cells(row)) for row in found["rows"])
    )
    repaint = ((row["repeats"], row["calls"], *cells(row)) for row in found["repaint"])
    known = text_of.REPAINT.format(known=found["known"])
    return text + known + _table(("repeats", "network calls", *heads), repaint, 0)


def _quality(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    same = same_but_seed(rows)
    rows = [row for row in rows if row["seed"] == first["seed"]]
    distances = [row["frechet_distance"] for row in same]
    accuracies = [row["accuracy"] for row in same]
    text = text_of.QUALITY.format(
        images=first["images"],
        seed=first["seed"],
        guidance=first["guidance"],
        off=" (off)" if first["guidance"] == 1.0 else "",
        real_accuracy=first["real_accuracy"],
        repeated=f"`{same[0]['sampler']}` at {same[0]['steps']} steps",
        seeds=len(same),
        least=min(distances),
        most=max(distances),
        low=min(accuracies),
        high=max(accuracies),
    )
    steps = list(dict.fromkeys(row["steps"] for row in rows))
    grids = {row["sampler"]: row["spacing"] for row in rows}
    cells = {
        (row["sampler"], row["steps"]): f"{row['frechet_distance']:.2f}, {row['accuracy']:.3f}"
        for row in rows
    }
    body = (
        (f"`{name}`", grids[name], *(cells.get((name, n), "") for n in steps))
        for name in dict.fromkeys(row["sampler"] for row in rows)
    )
    return text + _table(("sampler", "grid", *(f"{n} steps" for n in steps)), body, 2)
