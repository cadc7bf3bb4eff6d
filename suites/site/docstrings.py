"""Docstrings for the API reference: their reStructuredText, where they have some, as Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

FORMULA = re.compile(
    r"^( *)\.\. math::(?: +(\S.*)\n|\n+((?:\1 +\S.*\n|\n)+))", re.MULTILINE
)  # fmt: skip
INLINE = re.compile(r":math:`([^`]+)`")
RULE = r" *=+(?:  +=+)+ *\n"
TABLE = re.compile(rf"^({RULE})(.+\n){RULE}((?:.+\n)+?){RULE}", re.MULTILINE)
BEFORE_CODE = re.compile(r"(?<=\S)::$|^ *::$", re.MULTILINE)


def as_markdown(text: str) -> str:
    """Formulas, tables and the colons before code, in Markdown; the rest as it is."""
    text = TABLE.sub(_table, f"{text}\n")
    text = FORMULA.sub(_formula, text)
    text = INLINE.sub(r"$\1$", text)
    return BEFORE_CODE.sub(lambda found: _colon(text, found.start()), text).rstrip()


def _colon(text: str, at: int) -> str:
    """What stays of ``::``: a colon after words, nothing where it has a line of its own."""
    return ":" if text[:at].rpartition("\n")[2].strip() else ""


def _formula(found: re.Match[str]) -> str:
    indent, body = found[1], textwrap.dedent(found[2] or found[3]).strip()
    return textwrap.indent(f"```math\n{body}\n```\n\n", indent)


def _table(found: re.Match[str]) -> str:
    """A simple table; its columns begin where the rules do."""
    rule, head, rows = found.groups()
    starts = [run.start() for run in re.finditer("=+", rule)]
    ends = [*starts[1:], None]

    def line(row: str) -> str:
        cells = (row[start:end].strip() for start, end in zip(starts, ends, strict=True))
        return f"| {' | '.join(cells)} |\n"

    lines = [line(head), "|---" * len(starts) + "|\n", *map(line, rows.splitlines())]
    return textwrap.indent("".join(lines), " " * starts[0])


class Markdown(griffe.Extension):
    """Griffe: docstrings are read as Markdown, and names that are imported when asked for found."""

    def on_alias_instance(self, *, alias: griffe.Alias, **_: Any) -> None:
        """A name is imported: under TYPE_CHECKING too it is one that users have."""
        alias.runtime = True

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """A class, function, attribute or module is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
