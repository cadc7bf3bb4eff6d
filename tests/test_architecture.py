"""docs/architecture.md has one line for every source file, and none for what is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("kernels", "engine", "export", "bench", "suites", "proofs", "src/revstep")
SUFFIXES = {".py", ".pyi", ".cpp", ".h", ".cu"}


def _sources():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT)
            through_link = any((ROOT / p).is_symlink() for p in inside.parents)
            package = path.name == "__init__.py" and folder != "src/revstep"
            commands = path.name == "__init__.py" and "commands" in inside.parts
            if path.suffix in SUFFIXES and not (through_link or package or commands):
                yield inside.as_posix()


def test_every_source_file_has_its_line():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)
    listed = [name for name, _ in rows]
    assert len(listed) == len(set(listed))
    sources = {name for name in listed if Path(name).suffix in SUFFIXES}
    assert sources == set(_sources())
    for name in listed:
        assert (ROOT / name).exists(), name
