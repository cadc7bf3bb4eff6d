"""Results as JSON, one object per line: what was measured, and where and with what."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from revstep.bench.machine import machine_info

VERSION = 1
"""Of the rows' fields: rows of another are refused where they are compared or reported."""


def new_row(bench: str, fields: Mapping[str, Any], checkout: Path | None = None) -> dict[str, Any]:
    """A row: the benchmark's name, its figures and settings, the machine, versions and commit.

    Args:
        bench: The benchmark's name.
        fields: Figures, and how they were measured: plain JSON values.
        checkout: For the commit; None: that of the current directory.
    """
    return {"bench": bench, "version": VERSION, **fields, "machine": machine_info(checkout)}


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to a file, which is made if it isn't there; the row is then on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def check_appends(path: Path) -> None:
    """Refuses a file that no row can be added to: before a row is measured; nothing is written.

    Raises:
        OSError: It is a folder, lies in none that can be made, or may not be written.
    """
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a .jsonl file", str(path))
    if there != path and not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(there))
    if not os.access(there, os.W_OK):
        raise PermissionError(errno.EACCES, "may not be written", str(there))


def read_rows(path: Path, fields: Collection[str] = ()) -> list[dict[str, Any]]:
    """The rows of a file.

    Args:
        path: The .jsonl file.
        fields: What each row must have.

    Raises:
        ValueError: A line is no such row; the message names file and line.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{path}:{number} is no JSON ({error}); a file of rows has a JSON object a line"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number} is no row: it must be a JSON object")
        if missing := sorted(set(fields) - set(row)):
            raise ValueError(f"{path}:{number} is no row: it has no {', '.join(missing)}")
        rows.append(row)
    return rows


def starts_of(row: Mapping[str, Any], name: str) -> list[list[float]]:
    """Seconds of a task's runs, a list for every opening of its sides; of an old row, one."""
    times: list[float] = row["times_s"][name]
    ends = [*itertools.accumulate(each["runs"] for each in row.get("openings", ()))] or [len(times)]
    return [times[begin:end] for begin, end in itertools.pairwise((0, *ends))]


def measured_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of ``bench``: of its ``--output`` (JSON lines), or of what ``--json`` printed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has none, or rows of another version; the message says what to do.
    """
    write = f"`revstep bench run BUNDLE --output {path}` writes some"
    if not path.exists():
        raise FileNotFoundError(f"there are no rows at {path}; {write}")
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        whole = None
    rows = whole.get("rows") if isinstance(whole, dict) else None
    if rows is None:
        rows = read_rows(path, ("bench", "machine"))
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} has no rows; {write}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or row.get("version") != VERSION:
            found = row.get("version", "none") if isinstance(row, dict) else "none"
            raise ValueError(
                f"row {number} of {path} has version {found}, and this revstep reads {VERSION}: "
                "measure again with this revstep"
            )
    return rows
