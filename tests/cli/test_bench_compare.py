"""``revstep bench compare``, on rows of a real run and on copies with other times."""

import copy
import json

import pytest

from revstep.bench.rows import read_rows


@pytest.fixture
def rows(bench_file):
    """Two cells of a real run."""
    return read_rows(bench_file)


@pytest.fixture
def written(rows, tmp_path):
    """A function: a file of the rows, each changed by a function first."""

    def write(name, change=lambda row: row, of=rows):
        path = tmp_path / name
        copies = [copy.deepcopy(row) for row in of]
        changed = [change(row) or row for row in copies]
        path.write_text("".join(json.dumps(row) + "\n" for row in changed))
        return path

    return write


def steady(row, seconds=0.01, spread=0.001):
    """The row with 16 times around a median, and no disturbance."""
    times = [seconds * (1 + spread * (number % 5 - 2)) for number in range(16)]
    row["times_s"] = {"revstep": times}
    del row["openings"]  # as rows had none
    row["disturbance"] = {"verdict": "quiet", "reasons": [], "others": 0.0, "steal": 0.0}
    return row


def at(clock):
    """What gives a row its time of the day."""

    def change(row):
        row["machine"]["time"] = f"2026-11-28T10:{clock:02d}:00+00:00"
        return row

    return change


def verdicts(result):
    assert result.exit_code == 0, result.stderr
    return [cell["verdict"] for cell in json.loads(result.stdout)["cells"]]


def test_a_run_beside_itself_is_the_same(cli, written):
    path = written("same.jsonl", steady)
    assert verdicts(cli("bench", "compare", path, path, "--json")) == ["same", "same"]


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0.0105, "slower"), (0.0095, "faster"), (0.01005, "same")]
)
def test_the_second_file_is_judged(seconds, verdict, cli, written):
    before = written("before.jsonl", steady)
    after = written("after.jsonl", lambda row: steady(row, seconds))
    result = cli("bench", "compare", before, after, "--json")
    assert verdicts(result) == [verdict] * 2
    cell = json.loads(result.stdout)["cells"][0]
    assert cell["ratio"] == pytest.approx(0.01 / seconds)
    assert cell["low"] <= cell["ratio"] <= cell["high"]


def test_openings_of_a_row_are_starts_of_it(cli, written):
    def moved(row):
        """A quarter of the times are another place's, which the median of all hides."""
        row = steady(row)
        times = row["times_s"]["revstep"]
        row["times_s"]["revstep"] = [*times[:12], *(1.06 * value for value in times[12:])]
        return row

    def opened(row):
        return {**moved(row), "openings": [{"runs": 12}, {"runs": 4}]}

    (one, *_), (two, *_) = (
        json.loads(cli("bench", "compare", path, path, "--json").stdout)["cells"]
        for path in (written("one.jsonl", moved), written("two.jsonl", opened))
    )
    assert one["high"] < 1.01
    assert two["high"] == pytest.approx(1.06, abs=0.005)
    assert one["before"]["runs"] == two["before"]["runs"] == 16


def test_a_threshold_says_what_matters(cli, written):
    before = written("before.jsonl", steady)
    after = written("after.jsonl", lambda row: steady(row, 0.0105))
    shown = cli("bench", "compare", before, after, "--json", "--threshold", "0.1")
    assert verdicts(shown) == ["same"] * 2


def test_scattered_runs_with_a_small_difference_are_ambiguous(cli, written):
    before = written("before.jsonl", lambda row: steady(row, spread=0.2))
    after = written("after.jsonl", lambda row: steady(row, 0.0103, spread=0.2))
    assert verdicts(cli("bench", "compare", before, after, "--json")) == ["ambiguous"] * 2


def test_slower_is_an_exit_code_only_where_it_is_asked_for(cli, written):
    before = written("before.jsonl", steady)
    slow = written("slow.jsonl", lambda row: steady(row, 0.012))
    assert cli("bench", "compare", before, slow).exit_code == 0
    assert cli("bench", "compare", before, slow, "--fail-on-slower").exit_code == 1
    assert cli("bench", "compare", slow, before, "--fail-on-slower").exit_code == 0


def test_five_pairs_that_took_turns_leave_out_what_drifted(cli, rows, written):
    """The machine slows down by half while each pair differs by 5 %."""
    drift = [0.010, 0.011, 0.012, 0.013, 0.014, 0.015]
    sides = {}
    for name, factor, first in (("before", 1.0, 0), ("after", 1.05, 1)):
        sides[name] = written(
            f"{name}.jsonl",
            lambda pair, factor=factor, first=first: at(first + 2 * pair[0])(
                steady(pair[1], factor * drift[pair[0]])
            ),
            [(number, rows[0]) for number in range(6)],
        )
    result = cli("bench", "compare", sides["before"], sides["after"], "--json")
    assert verdicts(result) == ["slower"]
    (cell,) = json.loads(result.stdout)["cells"]
    assert cell["in_turns"]
    assert cell["high"] - cell["low"] < 0.001
    one_after_the_other = written("later.jsonl", lambda row: at(59)(row), read_rows(sides["after"]))
    apart = cli("bench", "compare", sides["before"], one_after_the_other, "--json")
    assert verdicts(apart) == ["ambiguous"]


def test_rows_of_different_machines_are_refused_unless_told(cli, written):
    def elsewhere(row):
        row["machine"] |= {"cores": 512, "gpus": ["NVIDIA H100"]}

    before, after = written("before.jsonl"), written("after.jsonl", elsewhere)
    result = cli("bench", "compare", before, after)
    assert result.exit_code == 2
    assert "different machines (cores " in result.stderr
    assert "GPUs none and NVIDIA H100" in result.stderr
    assert "--any-machine" in result.stderr
    assert cli("bench", "compare", before, after, "--any-machine").exit_code == 0


def test_rows_of_another_version_are_refused(cli, written):
    def old(row):
        del row["version"]

    before, after = written("before.jsonl"), written("after.jsonl", old)
    result = cli("bench", "compare", before, after)
    assert result.exit_code == 2
    assert "row 1 of" in result.stderr
    assert "has version none, and this revstep reads 1: measure again" in result.stderr


def test_files_without_a_common_cell_are_told_apart(cli, rows, written):
    before, after = written("a.jsonl", of=rows[:1]), written("b.jsonl", of=rows[1:])
    result = cli("bench", "compare", before, after)
    assert result.exit_code == 2
    assert "no cell is in both files (batch 1 and 3)" in result.stderr


def test_files_without_rows_say_how_to_get_some(cli, written, tmp_path):
    empty = written("empty.jsonl", of=[])
    none, text = tmp_path / "none.jsonl", tmp_path / "text.jsonl"
    text.write_text("words\n")
    for first, message in (
        (empty, "empty.jsonl has no rows; `revstep bench run BUNDLE --output"),
        (none, "none.jsonl; `revstep bench run BUNDLE --output"),
        (text, "a file of rows has a JSON object a line"),
    ):
        result = cli("bench", "compare", first, empty)
        assert result.exit_code == 2
        assert message in result.stderr
    served = written("served.jsonl", lambda row: row.update(bench="serve"))
    result = cli("bench", "compare", served, served)
    assert result.exit_code == 2
    assert "no rows of whole runs" in result.stderr


def test_what_json_printed_is_read_too(cli, rows, written, tmp_path):
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({"rows": rows}, indent=2))
    assert cli("bench", "compare", path, written("b.jsonl")).exit_code == 0


def test_noise_and_what_differs_stand_below_the_table(cli, written):
    def changed(row):
        steady(row)
        row["disturbance"] = {"verdict": "noisy", "reasons": ["other processes kept 40% busy"]}
        row["machine"]["versions"] |= {"onnxruntime": "0.0.1"}

    before, after = written("before.jsonl", steady), written("after.jsonl", changed)
    result = cli("bench", "compare", before, after)
    assert result.exit_code == 0, result.stderr
    assert "after was noisy: other processes kept 40% busy" in result.stdout
    assert "-> 0.0.1" in result.stdout
    assert "measure both in turns, 5 times or more" in result.stdout
