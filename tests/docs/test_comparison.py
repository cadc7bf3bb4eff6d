"""docs/comparison.md: every claim says where it can be read."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")
CLAIMS = re.findall(r"^- (?:.+\n)(?:  .+\n)*", PAGE, re.MULTILINE)
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| \[", line)]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_has_its_source(claim):
    links = re.findall(r"\]\(([^)]+)\)", claim)
    public = any(link.startswith("https://") for link in links)
    own = claim.startswith(("- revstep", "- Figures")) and any(".md" in link for link in links)
    assert public or own


@pytest.mark.parametrize("row", ROWS)
def test_a_system_has_its_place_and_what_was_read(row):
    name, what, read = (cell.strip() for cell in row.strip("| ").split(" | "))
    assert re.search(r"\]\(https://", name)
    assert what
    assert re.search(r"\d|documentation", read)


def test_the_page_was_read():
    assert len(CLAIMS) > 20
    assert len(ROWS) > 8
