"""Tables in Markdown: cells, and times for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

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


def seconds_text(seconds: float) -> str:
    """Seconds for people: three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1.0:
            value = (
                f"{seconds * scale:.3g}" if seconds * scale < 1000 else f"{seconds * scale:,.0f}"
            )
            return f"{value} {unit}"
    return f"{seconds * 1e9:.3g} ns"
