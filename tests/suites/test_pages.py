"""Every table of the pages is what its committed rows give, and every one has a writer."""

import re
import shutil
from pathlib import Path

import pytest

from suites import pages
from suites.tables import marked, write

ROOT = Path(__file__).resolve().parents[2]
EVERY = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
PLACES = [
    (path.relative_to(ROOT), suite, name)
    for path in EVERY
    for suite, name in marked(path.read_text(encoding="utf-8"))
]


def test_the_committed_pages_are_what_the_committed_rows_give():
    assert list(pages.stale(ROOT)) == [], "run: make tables"


@pytest.mark.parametrize(("page", "suite", "name"), PLACES, ids=str)
def test_a_table_has_one_writer(page, suite, name):
    assert sum(writer.writes(suite, name, page) for writer in pages.WRITERS) == 1


def test_every_comment_that_begins_or_ends_a_table_is_one_of_a_pair():
    for path in EVERY:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"<!-- ([^>]*): (begin|end) -->", text)
        names = [" ".join(place) for place in marked(text)]
        assert found == [(name, side) for name in names for side in ("begin", "end")], path


def test_every_table_that_a_suite_can_write_stands_on_a_page():
    standing = {(suite, name) for _, suite, name in PLACES}
    known = {(w.suite, name) for w in pages.WRITERS if hasattr(w, "tables") for name in w.tables}
    assert known == standing


@pytest.fixture
def checkout(tmp_path):
    for page in {page for writer in pages.WRITERS for page in writer.pages}:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    shutil.copytree(ROOT / "bench/results", tmp_path / "bench/results")
    return tmp_path


def test_a_figure_that_was_changed_by_hand_is_found_and_written_anew(checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    assert pages.main(["--check"]) == 0
    for page, figure in (
        ("README.md", r"(x 3,072 \|) [\d.]+"),
        ("docs/kernels.md", "(128-bit) loads"),
    ):
        text, changed = re.subn(figure, r"\1 99.9", (checkout / page).read_text(encoding="utf-8"))
        assert changed
        (checkout / page).write_text(text, encoding="utf-8")
    assert pages.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert "README.md: " in told
    assert "docs/kernels.md: " in told
    assert "run: make tables" in told
    written = {page for writer in pages.WRITERS for page in write(writer, checkout)}
    assert {Path("README.md"), Path("docs/kernels.md")} == written
    assert list(pages.stale(checkout)) == []


def test_a_row_that_is_added_changes_its_page(checkout):
    path = checkout / "bench/results/step_cpu.jsonl"
    last = path.read_text(encoding="utf-8").splitlines()[-1]
    path.write_text(last.replace('"ratio_best": ', '"ratio_best": 7'), encoding="utf-8")
    assert list(pages.stale(checkout)) == [Path("README.md"), Path("docs/benchmarks.md")]
