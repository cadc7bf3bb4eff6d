"""What commands print: results on stdout, progress and messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

Report = Callable[[str, int, int], None]

WIDE = 10_000  # columns: a pipe or a file has no edge to wrap at


def out() -> Console:
    """The console of tables; plain lines go through ``typer.echo``. Nothing is markup."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(highlight=False, markup=False, emoji=False, width=width)


def err() -> Console:
    """The console of progress and messages."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Prints one JSON document on stdout; paths as strings, numpy scalars as numbers."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")


@contextmanager
def rows_at_end(
    rows: list[dict[str, Any]], as_json: bool, show: Callable[[list[dict[str, Any]]], None]
) -> Iterator[None]:
    """Prints the rows that there are when the ``with`` block ends, whatever ends it.

    Args:
        rows: What was measured; it grows meanwhile.
        as_json: As one JSON document.
        show: Prints them otherwise.
    """
    try:
        yield
    finally:
        if rows and as_json:
            print_json({"rows": rows})
        elif rows:
            show(rows)


@contextmanager
def messages_once() -> Iterator[None]:
    """What the package warns of in the ``with`` block is said once, however often it is opened."""
    import logging

    said = set[str]()

    def new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        known = text in said
        said.add(text)
        return not known

    log = logging.getLogger("revstep")
    log.addFilter(new)
    try:
        yield
    finally:
        log.removeFilter(new)


class Bars:
    """Progress bars of one command, one below the other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def bar(self, label: str) -> Report:
        """A new bar; the function it is driven by takes (description, done, total).

        Total 0 is a spinner without an end; an empty description leaves the label alone.
        """
        task = self._progress.add_task(label, total=None)

        def report(description: str, done: int, total: int) -> None:
            text = f"{label}: {description}" if description else label
            self._progress.update(task, description=text, completed=done, total=total or None)

        return report


def counter(report: Report) -> Callable[[int, int], None]:
    """A bar that is driven by (done, total) alone."""
    return lambda done, total: report("", done, total)


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Progress bars on stderr, for the length of the ``with`` block; a failure wipes them."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err(),
    ) as progress:
        try:
            yield Bars(progress)
        except BaseException:
            progress.live.transient = True  # no dead spinner above the error
            raise


def size(count: int) -> str:
    """A number of bytes for a person: ``1.8 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000.0:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000.0
    return f"{value:.1f} GB"
