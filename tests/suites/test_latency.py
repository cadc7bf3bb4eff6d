"""The suite of `revstep bench`'s own rows: the commands, what is kept of them, and its tables."""

import copy
import json

import pytest
import typer

from revstep.bench.rows import measured_rows
from revstep.cli import app
from suites.latency import measure, table
from suites.latency.commands import ASKED, BUNDLE, MADE, Command

SECONDS = {"value": 0.002, "low": 0.001, "high": 0.003}
MACHINE = {"cpu": "CPU", "versions": {"torch": "2", "numpy": "2"}, "commit": "abc"}
SUMMARY = {"runs": 600, "median_s": 0.002, "samples_per_s": 500.0, "spread": 0.01,
           "percentiles": {"p50": SECONDS, "p90": SECONDS, "p99": SECONDS}}  # fmt: skip


def run(question="runs", batch=1, when="2026-01-01T00", **fields):
    cell = {"sampler": "ddim", "steps": 20, "network_calls": 20, "guidance": 1.0, "batch": batch}
    split = {"network_s": 0.0001, "sampler_s": 1e-6, "gap_s": 2e-6}
    return {
        "bench": "latency", "version": 1, "question": question, "run": when, "cell": cell,
        "engine": {"backend": "onnxruntime"}, "summary": copy.deepcopy(SUMMARY), "split": split,
        "disturbance": {"verdict": "quiet"}, "machine": MACHINE, "command": f"revstep {question}",
        **fields,
    }  # fmt: skip


def load(rate, verdict, when="2026-01-01T00"):
    return {
        "bench": "serve", "part": "load", "question": "service", "run": when,
        "command": "revstep service", "load": {"rate": rate}, "arrivals": 528, "verdict": verdict,
        "summary": {"percentiles": {"p50": SECONDS, "p99": {**SECONDS, "value": None}},
                    "outcomes": {"answered": 500, "refused": 28}},
        "goodput": {"deadline_s": 0.1, "share": 0.9, "per_s": 21.6}, "limit": {"seconds": 0.2},
    }  # fmt: skip


def search(found):
    same = {"bench": "serve", "part": "search", "question": "service", "run": "2026-01-01T00"}
    return {**same, "command": "revstep service", "found_per_s": found, "limit": {"seconds": 0.2}}


def test_percentiles_and_a_steps_parts_stand_in_a_line_a_run():
    few = run(batch=16)
    del few["summary"]["percentiles"]["p99"]
    text = table.runs_table([run(), few])
    assert (
        "| ddim-20, batch 1 | 600 | 2 ms | 2 ms | 2 ms | 1.0% | 100 µs | 1 µs | 2 µs | 500 |"
    ) in text
    assert "| ddim-20, batch 16 | 600 | 2 ms | 2 ms | - |" in text


def test_the_last_run_of_each_question_counts_whole():
    old, new = run(batch=1), run(batch=16, when="2026-01-02T00")
    other = run("fewer_steps", batch=2)
    text = table.runs_table([old, other, new])
    assert "batch 16 |" in text
    assert "batch 2 |" in text
    assert "batch 1 |" not in text


def test_baselines_have_their_own_table():
    found = {"summary": {"median_s": 0.006}, "verdict": "faster", "largest_difference": 2e-6,
             "ratio": {"ratio": 3.0, "low": 2.9, "high": 3.1}}  # fmt: skip
    rows = [run("baselines", vs={"diffusers": found})]
    assert table.runs_table(rows) == table.NOTHING
    line = "| ddim-20, batch 1 | diffusers | 2 ms | 6 ms | 3.00 (2.90 to 3.10) | faster | 2e-06 |"
    assert line in table.baselines_table(rows)
    assert table.baselines_table([run()]) == table.NOTHING


def test_a_cold_start_is_told_in_its_parts():
    cold = dict.fromkeys(table.COLD, 0.25) | {"starts": [{}] * 5}
    assert table.cold_table([run(), run(cold=cold)]).endswith(f"| 5 |{' 250 ms |' * 6}\n")


def test_loads_stand_by_rate_with_what_never_came_and_what_was_in_time():
    lines = table.loads_table([load(40.0, "missed"), load(20.0, "holds")]).splitlines()
    assert "within 100 ms" in lines[0]
    assert "p99 of 200 ms" in lines[0]
    wanted = "| 20 | 528 | 2 ms | - | no reply | 90.0% | 21.6 | 28, 0, 0, 0 | holds |"
    assert lines[2] == wanted
    assert lines[3].startswith("| 40 |")


def test_the_search_is_told_found_or_not():
    assert table.found_line([search(26.04)]) == "A p99 of 200 ms holds at 26 requests a second.\n"
    assert table.found_line([search(None)]).startswith("No rate was found")
    assert table.found_line([run()]) == table.NOTHING


def test_the_page_names_the_commands_and_the_machine_of_what_it_shows():
    rows = [run(), run(batch=16, disturbance={"verdict": "noisy"}), load(20.0, "holds")]
    assert table.commands_list(rows) == "```sh\nrevstep runs\nrevstep service\n```\n"
    assert table.machine_line(rows).startswith("CPU; torch 2; commit abc; 2026-01-01; 1 of 2 cases")


def test_without_rows_every_table_says_so():
    assert {make([]) for make in table.BLOCKS.values()} == {table.NOTHING}


@pytest.mark.parametrize("command", [*MADE, *ASKED], ids=str)
def test_the_commands_are_ones_that_the_command_line_takes(command, tmp_path):
    group = typer.main.get_command(app)
    (tmp_path / BUNDLE).mkdir()
    words = command.words_in(tmp_path)
    assert str(tmp_path / BUNDLE) in words
    group.commands[words[0]].make_context(words[0], words[1:])


@pytest.fixture
def short(monkeypatch, tabular_bundle):
    """Commands of a small network that is there already."""
    words = f"bench run {BUNDLE} --batch 1 --sampler ddim --steps 2 --runs 8 --seconds 0.1 --cold 0"
    monkeypatch.setattr(measure, "MADE", ())
    monkeypatch.setattr(measure, "ASKED", (Command("runs", words),))

    def words_in(self, folder):
        return [str(tabular_bundle) if word == BUNDLE else word for word in self.words.split()]

    monkeypatch.setattr(Command, "words_in", words_in)
    return words


def test_a_real_run_leaves_its_rows_with_their_command_and_no_folder(short, tmp_path):
    output = tmp_path / "rows.jsonl"
    assert measure.main(["--output", str(output)]) == 0
    (row,) = measured_rows(output)
    assert row["command"] == f"revstep {short}"
    assert (row["question"], len(row["times_s"]["revstep"])) == ("runs", 8)
    assert "/" not in row["engine"]["bundle"]
    assert "ddim-2, batch 1" in table.runs_table([row])


def test_a_command_that_fails_is_named_and_what_came_before_it_is_kept(
    short, monkeypatch, tmp_path, capsys
):
    bad = Command("service", "bench run nothing.revstep")
    monkeypatch.setattr(measure, "ASKED", (*measure.ASKED, bad))
    output = tmp_path / "rows.jsonl"
    assert measure.main(["--output", str(output)]) == 1
    assert [json.loads(row)["question"] for row in output.read_text().splitlines()] == ["runs"]
    assert "revstep bench run nothing.revstep: exit code 2" in capsys.readouterr().err
