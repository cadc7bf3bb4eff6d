"""Tables in Markdown: cells, times for people, and the pages that they are written into.

A table stands between two comments that name it, and is written anew.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from revstep.bench.rows import read_rows
from revstep.bench.stats.percentiles import Percentile
from revstep.engine.system.files import write_whole

Rows = TypeVar("Rows")

NOTHING = "Not measured yet.\n"


def table(lines: list[str]) -> str:
    """Lines of a table, the first two its head; without others it says so."""
    return "\n".join(lines) + "\n" if len(lines) > 2 else NOTHING


def line(*cells: object) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def block_of(suite: str) -> re.Pattern[str]:
    """A table of a page: between ``<!-- SUITE NAME: begin -->`` and ``end``."""
    begin, end = rf"(<!-- {suite} (\w+): begin -->\n)", rf"(<!-- {suite} \2: end -->)"
    return re.compile(f"{begin}.*?{end}", re.DOTALL)


def fill(
    text: str, block: re.Pattern[str], tables: Mapping[str, Callable[[Rows], str]], rows: Rows
) -> str:
    """A page with its tables made of the rows.

    Args:
        text: The page.
        block: Of ``block_of``.
        tables: What makes a table, by name.
        rows: What they are made of.

    Raises:
        KeyError: The page names a table that there isn't.
    """
    return block.sub(lambda found: found[1] + tables[found[2]](rows) + found[3], text)


def rows_at(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none without it."""
    return read_rows(path) if path.exists() else []


class Writer(Protocol):
    """What writes tables into pages from what is committed."""

    @property
    def pages(self) -> tuple[Path, ...]:
        """Of a checkout."""
        ...

    def page(self, path: Path, root: Path) -> str:
        """The text of one of its pages in a checkout, with the tables that the rows give."""
        ...

    def draw(self, root: Path) -> None:
        """Writes the plots that the same rows give, if any."""
        ...

    def writes(self, suite: str, name: str, path: Path) -> bool:
        """Whether it writes the table of this name in that page."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables(Generic[Rows]):
    """The tables of one suite: see ``Writer``.

    Attributes:
        suite: As the comments name it.
        pages: Where they stand.
        tables: What makes each, by name.
        rows: Reads what they are made of from a checkout.
        plot: Draws the rows' plots into a checkout.
    """

    suite: str
    pages: tuple[Path, ...]
    tables: Mapping[str, Callable[[Rows], str]]
    rows: Callable[[Path], Rows]
    plot: Callable[[Rows, Path], None] = lambda rows, root: None

    def filled(self, text: str, rows: Rows) -> str:
        """A page with its tables made of the rows: see ``fill``."""
        return fill(text, block_of(self.suite), self.tables, rows)

    def page(self, path: Path, root: Path) -> str:
        """See ``Writer``."""
        return self.filled((root / path).read_text(encoding="utf-8"), self.rows(root))

    def draw(self, root: Path) -> None:
        """See ``Writer``."""
        self.plot(self.rows(root), root)

    def writes(self, suite: str, name: str, path: Path) -> bool:
        """See ``Writer``."""
        return suite == self.suite and name in self.tables and path in self.pages


@dataclasses.dataclass(frozen=True)
class WholePage:
    """A page that is written whole: see ``Writer``.

    Attributes:
        path: Of the page.
        text: Makes it, from a checkout.
    """

    path: Path
    text: Callable[[Path], str]

    @property
    def pages(self) -> tuple[Path, ...]:
        """See ``Writer``."""
        return (self.path,)

    def page(self, path: Path, root: Path) -> str:
        """See ``Writer``."""
        return self.text(root)

    def draw(self, root: Path) -> None:
        """There are no plots."""

    def writes(self, suite: str, name: str, path: Path) -> bool:
        """No table between comments."""
        return False


def replace(path: Path, text: str) -> None:
    """Writes a file beside its place, and moves it there."""
    write_whole(path, lambda file: file.write(text.encode()))


def write(writer: Writer, root: Path) -> Iterator[Path]:
    """Writes a writer's pages and plots in a checkout; gives the pages that changed."""
    for path in writer.pages:
        text = writer.page(path, root)
        if text != (root / path).read_text(encoding="utf-8"):
            replace(root / path, text)
            yield path
    writer.draw(root)


def marked(text: str) -> Iterator[tuple[str, str]]:
    """(suite, name) of the tables that a page has a place for."""
    for found in re.finditer(r"<!-- (\w+) (\w+): begin -->", text):
        yield found[1], found[2]


def ratio_text(found: Mapping[str, float]) -> str:
    """A ratio with its interval."""
    return f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def seconds_text(seconds: float) -> str:
    """Seconds for people: three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1.0:
            value = (
                f"{seconds * scale:.3g}" if seconds * scale < 1000 else f"{seconds * scale:,.0f}"
            )
            return f"{value} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def percentile_text(found: Percentile | None) -> str:
    """A percentile for people; ``-`` where too few support it."""
    if found is None:
        return "-"
    return "no reply" if found["value"] is None else seconds_text(found["value"])


def where_measured(rows: Sequence[Mapping[str, Any]], packages: Sequence[str]) -> str:
    """Where and with what the rows were measured, and how quiet it was: a line a place.

    Args:
        rows: With ``machine``, ``run`` and ``disturbance``.
        packages: Whose versions are told, where they were there.
    """
    found: dict[str, list[str]] = {}
    for row in rows:
        machine, versions = row["machine"], row["machine"]["versions"]
        parts = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
        where = f"{machine['cpu']}; {parts}; commit {machine['commit']}; {row['run'][:10]}"
        found.setdefault(where, []).append(row["disturbance"]["verdict"])
    return (
        "".join(
            f"{where}; {sum(v != 'quiet' for v in verdicts)} of {len(verdicts)} cases while other "
            "processes ran or the times spread.\n"
            for where, verdicts in found.items()
        )
        or NOTHING
    )
