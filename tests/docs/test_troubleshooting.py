"""docs/troubleshooting.md: every message is one of the source, and no type is missing."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from revstep import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)
GAP = "…"


def template(node):
    """A string as it is written, with a gap for each value; None: no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or GAP for part in node.values)
    return None


@cache
def templates():
    """Every string of the package's source; neighbouring literals are one."""
    folders = ("engine", "kernels", "export", "serve", "bench", "src/revstep")
    sources = {path.resolve() for name in folders for path in (ROOT / name).rglob("*.py")}
    found = set()
    for source in sources:
        nodes = ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        found |= {text for text in map(template, nodes) if text is not None}
    return found


def is_said(message):
    """Whether some string of the source may become a text with this part; a gap fits anything."""
    pattern = re.compile(".*".join(map(re.escape, message.split(GAP))), re.DOTALL)
    return any(pattern.search(text) for text in templates())


@pytest.mark.parametrize("message", HEADINGS)
def test_the_message_is_in_the_source(message):
    assert is_said(message)


def test_a_message_that_nobody_raises_is_found_out():
    assert not is_said("the flux capacitor is not charged")
    assert not is_said("is not installed … the flux capacitor")


def test_the_headings_are_read():
    assert len(HEADINGS) == PAGE.count("\n### ") > 40


def test_every_type_of_error_is_explained():
    table = PAGE.partition("## Types of errors")[2].partition("\n## ")[0]
    cells = " ".join(row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", cells)) == set(errors.__all__) - {"RevstepError"}
