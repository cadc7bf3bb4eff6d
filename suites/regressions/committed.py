"""The committed values: for each group a record for each set of versions that they hold for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suites.regressions.figure import Found, Group
from suites.tables import replace

FILE = Path("bench") / "results" / "regressions.json"


@dataclasses.dataclass(frozen=True)
class Record:
    """Values of a group, and the versions that they hold for."""

    versions: Mapping[str, str]
    found: Found


def records_of(group: Group, checkout: Path) -> list[Record]:
    """The committed records of a group, the latest last; none where it was never recorded.

    Raises:
        ValueError: The file is damaged; the message says what to do.
    """
    rows = _read(checkout / FILE).get(group.name, []) if group.committed is None else (
        group.committed(checkout)
    )  # fmt: skip
    try:
        return [
            Record(row["versions"], Found(row["values"], _tuples(row.get("names", {}))))
            for row in rows
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{checkout / FILE} has no values and versions for {group.name} ({error!r}); restore "
            f"it with git, or record new ones: {group.command}"
        ) from None


def nearest(records: list[Record], versions: Mapping[str, str]) -> Record | None:
    """The record of these versions; else the latest; None: there is none."""
    same = [record for record in records if record.versions == versions]
    known = same or records
    return known[-1] if known else None


def write(group: Group, checkout: Path, versions: Mapping[str, str], found: Found) -> None:
    """Records values, in place of those of the same versions.

    Raises:
        ValueError: The file is damaged, or the group's values are recorded by another command.
    """
    if group.committed is not None:
        raise ValueError(f"{group.name} is recorded by: {group.command}")
    path = checkout / FILE
    known = _read(path)
    kept = [row for row in known.get(group.name, []) if _versions(row) not in (None, versions)]
    row: dict[str, Any] = {"versions": dict(versions), "values": dict(found.values)}
    if found.names:
        row["names"] = {name: " ".join(names) for name, names in found.names.items()}
    known[group.name] = [*kept, row]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _versions(row: object) -> object:
    """Of a record; None: it is damaged."""
    return row.get("versions") if isinstance(row, dict) else None


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}); take either side of a merge, or restore it with git, "
            "and record the values again"
        ) from None
    if not isinstance(known, dict):
        raise ValueError(f"{path} is no JSON object; restore it with git")
    return known


def _tuples(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(words.split()) for name, words in names.items()}
