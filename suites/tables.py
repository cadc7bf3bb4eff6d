"""Tables in Markdown: cells, and times for people."""

from __future__ import annotations

NOTHING = "Not measured yet.\n"


def table(lines: list[str]) -> str:
    """Lines of a table, the first two its head; without others it says so."""
    return "\n".join(lines) + "\n" if len(lines) > 2 else NOTHING


def line(*cells: object) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def seconds_text(seconds: float) -> str:
    """Seconds for people: three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1.0:
            value = (
                f"{seconds * scale:.3g}" if seconds * scale < 1000 else f"{seconds * scale:,.0f}"
            )
            return f"{value} {unit}"
    return f"{seconds * 1e9:.3g} ns"
