"""Elements of a page: every text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: object, **attributes: str) -> Html:
    """An element; ``class_`` stands for ``class``. Children that are no ``Html`` are escaped."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value
    )
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Html:
    """One after the other; what is no ``Html`` is escaped."""
    return Html("".join(c if isinstance(c, Html) else escape(str(c)) for c in children))


def table(
    caption: str,
    head: Sequence[str],
    lines: Iterable[Sequence[object]],
    words: Sequence[int] = (0,),
) -> Html:
    """A table that scrolls by itself where the page is narrow.

    Args:
        caption: Above it.
        head: Of its columns.
        lines: Cells: text, or ``Html``.
        words: Columns of words, which begin at the left.
    """

    def cells(kind: str, values: Sequence[object]) -> Html:
        return joined(
            tag(kind, value, class_="words" if number in words else "")
            for number, value in enumerate(values)
        )

    body = joined(tag("tr", cells("td", line)) for line in lines)
    whole = tag(
        "table",
        tag("thead", tag("tr", cells("th", head))),
        tag("tbody", body),
    )
    above = tag("p", caption, class_="soft") if caption else Html()
    return joined([above, tag("div", whole, class_="scroll", tabindex="0")])


def section(name: str, title: str, *children: object) -> Html:
    """A section of the page; ``name`` is its id."""
    return tag("section", tag("h2", title), *children, id=name)


def page(title: str, style: str, *body: object) -> str:
    """A whole page, which needs nothing but itself."""
    head = joined(
        [
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<link rel="icon" href="data:,">'),
            tag("title", title),
            tag("style", Html(style)),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{joined(body)}</body></html>\n'
    )
