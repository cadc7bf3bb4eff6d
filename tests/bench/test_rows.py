"""Results on the disk, one JSON object per line."""

import json
import subprocess

import pytest

from revstep.bench.machine import machine_info
from revstep.bench.rows import append_row, new_row, read_rows, starts_of


def test_a_row_carries_its_figures_and_the_machine(tmp_path):
    path = tmp_path / "results" / "some.jsonl"
    for value in (1, 2):
        append_row(path, new_row("some", {"value": value}))
    first, second = read_rows(path, ("bench", "value", "machine"))
    assert (first["bench"], first["value"], second["value"]) == ("some", 1, 2)
    assert first["machine"].keys() == machine_info().keys()
    assert first["machine"]["versions"]["numpy"]


def test_the_commit_is_the_checkouts_and_not_the_current_folders(tmp_path):
    (tmp_path / "src" / "revstep").mkdir(parents=True)
    assert new_row("some", {}, tmp_path)["machine"]["commit"] is None
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    head = subprocess.run(
        ["git", "-C", tmp_path, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout
    inside = tmp_path / "src"
    assert new_row("some", {}, inside)["machine"]["commit"] == head[:12]


@pytest.mark.parametrize("line", ["{", "[]", '{"section": "kernel"}'])
def test_a_line_that_is_no_row_is_named(line, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"name": "some"}) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl:2 is no"):
        read_rows(path, ("name",))


def test_runs_belong_to_openings_and_those_of_an_old_row_to_one():
    row = {"times_s": {"revstep": [1.0, 2.0, 3.0], "other": [4.0, 5.0, 6.0]}}
    assert starts_of(row, "other") == [[4.0, 5.0, 6.0]]
    row["openings"] = [{"runs": 1}, {"runs": 2}]
    assert starts_of(row, "revstep") == [[1.0], [2.0, 3.0]]
    assert starts_of(row, "other") == [[4.0], [5.0, 6.0]]
