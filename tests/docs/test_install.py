"""docs/install.md: its table has every extra of the package."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_table_has_every_extra():
    table = PAGE.partition("## Extras")[2].partition("\n## ")[0]
    cells = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert sorted(named) == sorted(PROJECT["optional-dependencies"])


def test_what_it_says_to_install_is_an_extra():
    asked = re.findall(r"revstep\[([^\]]+)\]", PAGE)
    assert asked
    assert {e for names in asked for e in names.split(",")} <= set(PROJECT["optional-dependencies"])


def test_the_least_python_is_the_packages():
    (least,) = re.findall(r"Python (\d\.\d+) or newer", PAGE)
    assert PROJECT["requires-python"] == f">={least}"
