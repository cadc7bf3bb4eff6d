"""docs/proofs.md: the text is that of ``proofs.md`` beside this file, every number a result.

In that template ``{name}`` or ``{name:format}`` is a field; each ``##`` section is one part's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from proofs.quality import same_but_seed
from proofs.theory.descriptions import NOT_COMPARED

TEMPLATE = Path(__file__).with_suffix(".md")
HEADING = "\n## "
Fields = dict[str, Any]


def page(results: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The page.

    Args:
        results: Part -> what it found; the sections of parts that are missing are left out.
        rows: Of quality against steps; none leaves the section out.
    """
    found = {**results, **({"quality": rows} if rows else {})}
    introduction, *sections = TEMPLATE.read_text(encoding="utf-8").split(HEADING)
    filled = [
        section.format(**fields(found[part]))
        for (part, fields), section in zip(FIELDS.items(), sections, strict=True)
        if part in found
    ]
    return HEADING.join([introduction, *filled])


def table_rows(rows: Iterable[Sequence[object]]) -> str:
    """Lines of a Markdown table, without its head."""
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in rows)


def _convergence(found: dict[str, Any]) -> Fields:
    grids: dict[tuple[float, float], list[str]] = {}
    for even, (high, low) in found["levels"].items():
        grids.setdefault((high, low), []).append(even)
    levels = (f"from {a:g} to {b:g} ({', '.join(even)})" for (a, b), even in grids.items())
    solvers = (
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
    )
    steps = ", ".join(map(str, found["steps"]))
    return found | {"levels": "; ".join(levels), "steps": steps, "solvers": table_rows(solvers)}


def _laws(found: dict[str, Any]) -> Fields:
    high, low = found["levels"]
    by_chance = [v for row in found["rows"] for v in row["mixture"]["by_chance"]]
    samplers, controls = (
        table_rows(_law(row) for row in found["rows"] if row["control"] == control)
        for control in (False, True)
    )
    return found | {
        "high": high, "low": low, "samplers": samplers, "controls": controls,
        "by_chance": sum(by_chance) / len(by_chance),
    }  # fmt: skip


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


def _training_set(found: dict[str, Any]) -> Fields:
    ends = (
        (f"`{row['sampler']}`", f"{row['farthest']:.1e}", row["points_reached"])
        for row in found["ended_on"]
    )
    returns = (
        (f"{row['level']:.2f}", f"{row['own_point_probability']:.4f}", f"{row['returned']:.3f}")
        for row in found["returned"]
    )
    return found | {"ends": table_rows(ends), "returns": table_rows(returns)}


def _descriptions(found: dict[str, Any]) -> Fields:
    high, low, _ = found["levels"]
    same = ((f"`{row['sampler']}`", f"{row['difference']:.0e}") for row in found["invariant"])
    different = (
        (f"`{row['sampler']}`", row["reason"], *(f"{v:.3f}" for v in row["difference"]))
        for row in found["dependent"]
    )
    return {
        **found, **_steps_heads(found["dependent"][0]["steps"]), "high": high, "low": low,
        "same": table_rows(same), "different": table_rows(different),
        "not_compared": "; ".join(f"`{name}` ({why})" for name, why in NOT_COMPARED.items()),
    }  # fmt: skip


def _flow_maps(found: dict[str, Any]) -> Fields:
    rows = (
        (
            row["process"], row["prediction"], row["of"], f"{max(row['errors']):.0e}",
            *(f"{max(row['laws'][str(gamma)]):.0e}" for gamma in found["gammas"]),
        )
        for row in found["rows"]
    )  # fmt: skip
    gammas = " | ".join(f"γ = {gamma:g}" for gamma in found["gammas"])
    steps = ", ".join(map(str, found["steps"]))
    return {"steps": steps, "gammas": gammas, "maps": table_rows(rows)}


def _fused_runs(found: dict[str, Any]) -> Fields:
    def test(row: dict[str, Any]) -> tuple[str, ...]:
        return f"{row['distance']:.3f}", f"{row['by_chance']:.3f}", f"{row['p']:.3f}"

    samplers = ((f"`{row['sampler']}`", *test(row)) for row in found["rows"])
    repeats = ((row["repeats"], row["calls"], *test(row)) for row in found["repaint"])
    return found | {"samplers": table_rows(samplers), "repeats": table_rows(repeats)}


def _quality(rows: list[dict[str, Any]]) -> Fields:
    first, repeated = rows[0], same_but_seed(rows)
    rows = [row for row in rows if row["seed"] == first["seed"]]
    distances = [row["frechet_distance"] for row in repeated]
    accuracies = [row["accuracy"] for row in repeated]
    steps = list(dict.fromkeys(row["steps"] for row in rows))
    grids = {row["sampler"]: row["spacing"] for row in rows}
    cells = {
        (row["sampler"], row["steps"]): f"{row['frechet_distance']:.2f}, {row['accuracy']:.3f}"
        for row in rows
    }
    points = (
        (f"`{name}`", grid, *(cells.get((name, n), "") for n in steps))
        for name, grid in grids.items()
    )
    return {
        **first, **_steps_heads(steps), "points": table_rows(points), "seeds": len(repeated),
        "off": " (off)" if first["guidance"] == 1.0 else "",
        "repeated": f"`{repeated[0]['sampler']}` at {repeated[0]['steps']} steps",
        "nearest": min(distances), "farthest": max(distances),
        "lowest": min(accuracies), "highest": max(accuracies),
    }  # fmt: skip


def _steps_heads(steps: Sequence[int]) -> Fields:
    """A table's columns of numbers of steps."""
    return {
        "heads": " | ".join(f"{n} steps" for n in steps),
        "rule": "|".join(["---:"] * len(steps)),
    }


FIELDS: dict[str, Callable[[Any], Fields]] = {  # by part, in the order of the template's sections
    "convergence": _convergence,
    "laws": _laws,
    "training_set": _training_set,
    "descriptions": _descriptions,
    "flow_maps": _flow_maps,
    "fused_runs": _fused_runs,
    "quality": _quality,
}
