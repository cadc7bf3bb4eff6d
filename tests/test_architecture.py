"""docs/architecture.md names every room with the line that its package begins with."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("kernels", "engine", "export", "bench", "serve", "suites", "proofs", "src/revstep")


def _rooms():
    """folder -> the first line of its package's docstring."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("__init__.py"):
            inside = path.relative_to(ROOT).parent
            if any((ROOT / p).is_symlink() for p in (inside, *inside.parents)):
                continue  # a developer's links
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            assert docstring, inside
            yield f"{inside.as_posix()}/", docstring.partition("\n")[0]


def test_every_room_has_its_row():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+/)` \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    assert dict(rows) == dict(_rooms())


def test_every_source_file_begins_with_what_it_is():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), path


def test_every_file_that_the_page_names_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:engine|kernels|export|src|suites|docs)/[\w/]+\.\w+)`", text):
        assert (ROOT / name).is_file(), name
