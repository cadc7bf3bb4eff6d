"""What the check says, in lines, and the table of the committed values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from suites.regressions.check import Comparison, Verdict
from suites.regressions.committed import Record, records_of
from suites.regressions.figure import Group
from suites.regressions.registry import GROUPS
from suites.tables import Tables, line, table

PAGE = Path("docs") / "regressions.md"
MANY = 12  # figures of a group that are listed one by one


def lines_of(
    told: list[Comparison], record: Record | None, versions: Mapping[str, str]
) -> list[str]:
    """A group's comparisons: few are listed, of many those alone that don't hold."""
    listed = told if len(told) <= MANY else [t for t in told if t.verdict is not Verdict.HOLDS]
    width = max((len(t.figure.name) for t in listed), default=0)
    lines = [_line(t, width) for t in listed]
    if len(listed) < len(told):
        lines.append(f"  {len(told) - len(listed)} of {len(told)} figures hold")
    if record is not None and record.versions != versions:
        differ = sorted(
            f"{name} {record.versions.get(name, 'none')}, here {versions.get(name, 'none')}"
            for name in {*record.versions, *versions}
            if record.versions.get(name) != versions.get(name)
        )
        lines.append(f"  recorded with {'; '.join(differ)}: not compared, record them for these:")
        lines.append(f"    {told[0].group.command}")
    elif any(t.verdict is Verdict.SMALLER for t in told):
        lines.append(f"  smaller: keep it by recording it: {told[0].group.command}")
    return lines


def _line(told: Comparison, width: int) -> str:
    name = told.figure.name.ljust(width)
    return (
        f"  {name}  {_text(told.found)} (committed {_text(told.committed)})  {told.verdict.value}"
    )


def failure(told: Comparison) -> str:
    """What failed, why, and what to do."""
    group, figure = told.group, told.figure
    what = f"{group.name}: {figure.name}"
    if told.verdict is Verdict.GONE:
        return f"{what} is committed ({_text(told.committed)}), and no longer measured.\n" + (
            f"  On purpose: {group.command}"
        )
    if told.verdict is Verdict.NEW:
        return f"{what} is {_text(told.found)} {figure.unit}, and has no committed value.\n" + (
            f"  Record it: {group.command}"
        )
    assert told.committed is not None
    added = f"\n  new: {', '.join(told.added)}" if told.added else ""
    return (
        f"{what} has grown: committed {_text(told.committed)}, found {_text(told.found)} "
        f"{figure.unit}; allowed growth {figure.allowed}, so at most "
        f"{_text(round(figure.limit(told.committed), 3))}.{added}\n"
        f"  On purpose? Record it: {group.command}"
    )


def figures_table(groups: Iterable[Group], checkout: Path) -> str:
    """The committed values, as Markdown; of a group of many figures how many it has."""
    lines = [
        line("group", "figure", "committed", "unit", "allowed growth"),
        "|---|---|---:|---|---:|",
    ]
    for group in groups:
        records = records_of(group, checkout)
        values = records[-1].found.values if records else {}
        if len(group.figures) > MANY:
            lines.append(line(group.name, f"{len(group.figures)} figures", "", "", _allowed(group)))
            continue
        for figure in group.figures:
            value = _text(values.get(figure.name))
            lines.append(line(group.name, figure.name, value, figure.unit, figure.allowed))
    return table(lines)


def _allowed(group: Group) -> str:
    return ", ".join(dict.fromkeys(f.allowed for f in group.figures))


def _text(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}".rstrip("0")


TABLES = Tables[Path](
    suite="regressions", pages=(PAGE,), rows=lambda root: root,
    tables={"figures": lambda root: figures_table(GROUPS.values(), root)},
)  # fmt: skip
