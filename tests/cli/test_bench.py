"""``revstep bench``, as a user runs it."""

import io
import json

import pytest
from specs import spec_of

from revstep.commands.bench.limits import Limits
from revstep.engine.spec.grids import TimeGrid
from revstep.errors import ArgumentError

SHORT = ("--runs", "8", "--noise", "0", "--cold", "0")


def test_json_has_a_row_for_each_cell(cli, tabular_bundle, tmp_path):
    file = tmp_path / "rows.jsonl"
    result = cli(
        *("bench", tabular_bundle, "--batch", "1,3", "--steps", "2", "--sampler", "ddim,euler"),
        *(*SHORT, "--json", "--output", file),
    )
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [(r["cell"]["sampler"], r["cell"]["batch"]) for r in rows] == [
        ("ddim", 1), ("ddim", 3), ("euler", 1), ("euler", 3),
    ]  # fmt: skip
    for row in rows:
        assert row["summary"]["runs"] == len(row["times_s"]["revstep"]) == 8
        assert row["machine"]["versions"]["numpy"]
        assert row["engine"]["backend"] == "onnxruntime"
        assert row["engine"]["bundle"] == tabular_bundle.name  # rows are passed on: no folder
    assert [json.loads(line) for line in file.read_text().splitlines()] == rows


def test_a_table_says_what_so_few_runs_support_and_what_more_it_takes(cli, tabular_bundle):
    result = cli("bench", tabular_bundle, "--batch", "2", "--sampler", "ddim", *SHORT)
    assert result.exit_code == 0, result.stderr
    assert "ddim-20 batch 2" in result.stdout
    assert "p90 takes 43 more runs" in result.stdout
    assert "the highest that these support is p50" in result.stdout
    assert "from the reference, the bound is 0.001" in result.stdout


def test_the_table_is_whole_in_80_columns(cli, tabular_bundle):
    from rich.console import Console

    from revstep.commands.bench.table import latency_table

    result = cli("bench", tabular_bundle, "--batch", "16", *SHORT, "--json")
    rows = json.loads(result.stdout)["rows"]
    for row in rows:
        row["summary"]["median_s"], row["split"]["launch_s"] = 123.456, 1e-4
        row["summary"]["percentiles"] = {
            name: {"value": 9.9} for name in ("p50", "p90", "p99", "p99.9")
        }
    console = Console(width=80, file=io.StringIO())
    console.print(latency_table(rows))
    shown = console.file.getvalue()
    assert "9900.00  9900.00  9900.00  9900.00" in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        ({"device_of": "process"}, "host 2 MiB, device 3 MiB"),
        ({"device_of": "all"}, "host 2 MiB, device 3 MiB (of all processes)"),
        ({}, "host 2 MiB, device 3 MiB (of all processes)"),  # rows of earlier versions
    ],
)
def test_memory_of_the_device_says_whose_it_is(whose, said):
    from revstep.bench.report.tables import _memory
    from revstep.commands.bench.table import memory_text

    memory = {"host_bytes": 2 << 20, "device_bytes": 3 << 20, **whose}
    assert memory_text(memory) == said
    assert ("all processes" in _memory(memory)) == ("all processes" in said)


def test_run_may_be_said_or_left_out(cli, tabular_bundle):
    for words in (("bench",), ("bench", "run")):
        result = cli(*words, tabular_bundle, "--batch", "1", "--steps", "1", *SHORT)
        assert result.exit_code == 0, result.stderr


def test_a_grid_too_large_for_its_time_is_refused_before_any_work(cli, tabular_bundle):
    result = cli("bench", tabular_bundle, "--batch", "1-20", "--seconds", "30", "--total", "60")
    assert result.exit_code == 2
    assert "more than --total 60: ask for fewer cells" in result.stderr
    assert "--seconds 2.25" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sampler", "ddim,heun"), "no limit where alpha = 0"),
        (("--sampler", "ddim,nope"), "sampler"),
        (("--backend", "onnxruntime,nope"), "backend"),
        (("--precision", "fp32,fp7"), "precision"),
        (("--guidance", "2"), "guidance needs"),
        (("--steps", "2,100000"), "steps"),
        (("--output", "/dev/null/rows.jsonl"), "/dev/null: is no folder"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_measured(
    cli, tabular_bundle, monkeypatch, words, message
):
    from revstep.bench.measure import engines

    monkeypatch.setattr(engines, "load", None)
    result = cli("bench", tabular_bundle, "--batch", "1", *words, *SHORT)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


def test_a_cell_that_fails_loses_nothing_of_those_before(cli, tabular_bundle):
    words = (
        "bench",
        tabular_bundle,
        "--batch",
        "1",
        "--backend",
        "onnxruntime,tensorrt",
        "--device",
        "cpu",
        *SHORT,
    )
    result = cli(*words)
    assert result.exit_code != 0
    assert "onnxruntime fp32 default-20 batch 1" in result.stdout
    assert "tensorrt" in result.stderr


def test_a_cold_start_that_fails_loses_no_row(cli, tabular_bundle, tmp_path):
    file = tmp_path / "rows.jsonl"
    words = ("--runs", "8", "--noise", "0", "--cold-hook", "exit 3", "--output", file)
    result = cli("bench", tabular_bundle, "--batch", "1", *words)
    assert result.exit_code == 1
    assert "'exit 3' ended with 3" in result.stderr
    assert "batch 1" in result.stdout
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("where", ["within_deadline", "run_ticks", "cold"])
def test_ctrl_c_in_a_search_a_loop_or_a_cold_start_keeps_the_cell(
    cli, tabular_bundle, monkeypatch, where
):
    from revstep.bench.measure import cold, limits

    def stops(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(*((cold, "cold_starts") if where == "cold" else (limits, where)), stops)
    words = ("--deadline", "1ms") if where == "within_deadline" else ("--tick", "5ms")
    result = cli(
        "bench", tabular_bundle, "--batch", "1,2", "--runs", "8", "--seconds", "0.1", "--cold", "1",
        *(() if where == "cold" else words),
    )  # fmt: skip
    assert result.exit_code == 130
    assert "batch 1" in result.stdout
    assert "1 of 2 cells" in result.stderr


def test_ctrl_c_in_the_middle_of_a_control_loop_ends_the_grid_with_its_ticks(
    cli, tabular_bundle, monkeypatch
):
    from revstep.bench.measure import limits
    from revstep.bench.measure.tick import Ticks

    monkeypatch.setattr(limits, "run_ticks", lambda *_: Ticks(0.005, (0.001,), interrupted=True))
    words = ("--batch", "1,2", "--tick", "5ms", "--seconds", "0.1")
    result = cli("bench", tabular_bundle, *words, *SHORT)
    assert result.exit_code == 130
    assert "0 of 1 ticks missed" in result.stdout
    assert "1 of 2 cells" in result.stderr


def test_options_without_a_sampler_are_the_callers_mistake(cli, tabular_bundle):
    result = cli("bench", tabular_bundle, "--set", "eta=0.5", *SHORT)
    assert result.exit_code == 2
    assert "name it with --sampler" in result.stderr


def test_ctrl_c_prints_what_was_measured(cli, tabular_bundle, monkeypatch):
    from revstep.bench.measure import measure

    whole, calls = measure.run_rounds, []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(measure, "run_rounds", stops)
    result = cli("bench", tabular_bundle, "--batch", "1,2", "--steps", "1", *SHORT)
    assert result.exit_code == 130
    assert "batch 1" in result.stdout
    assert "1 of 2 cells" in result.stderr


def test_a_deadline_is_met_by_a_search_and_a_loop_counts_its_misses(cli, tabular_bundle):
    limits = ("--deadline", "1s", "--find", "batch", "--tick", "20ms", "--seconds", "0.2")
    words = ("bench", tabular_bundle, "--batch", "1", "--steps", "1", "--noise", "0", "--cold", "0")
    result = cli(*words, *limits, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["deadline"]["found"] >= 1
    assert row["deadline"]["tried"][0]["verdict"] == "fits"
    assert row["tick"]["ticks"] == len(row["tick"]["latencies_s"]) == 10
    shown = cli(*words, *limits)
    assert "within 1000 ms at p" in shown.stdout
    assert "a control loop of 20 ms: " in shown.stdout


def test_a_deadline_that_is_no_time_is_the_callers_mistake(cli, tabular_bundle):
    for wrong in ("20", "0ms", "-1s", "soon"):
        result = cli("bench", tabular_bundle, "--deadline", wrong, *SHORT)
        assert result.exit_code == 2
        assert "--deadline must be a time such as 20ms" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--price", "nan"), "price=nan must be a finite number of at least 0"),
        (("--price", "inf"), "price=inf must be"),
        (("--cold-hook", "true"), "--cold 0 makes none: leave one out"),
        (("--find", "batch"), "--find batch says what --deadline searches, and there is none"),
        (("--tick", "1us", "--seconds", "2"), "2,000,000 ticks, and a row holds 1,000,000 at most: "
         "--tick 2us or longer, or --seconds 1 or less"),
        (("--deadline", "1s", "--total", "5"), "take about 660 s (an estimate: --deadline tries"),
        (("--total", "nan"), "--total nan must be above 0"),
        (("--total", "-1"), "--total -1 must be above 0"),
        (("--batch", "a"), "--batch must be numbers such as 1, 1,8,64 or 1-4; got 'a'"),
    ],
)  # fmt: skip
def test_options_that_say_nothing_are_refused_before_anything_is_opened(
    cli, tabular_bundle, monkeypatch, words, message
):
    from revstep.bench.measure import engines

    monkeypatch.setattr(engines, "load", None)
    result = cli("bench", tabular_bundle, *SHORT, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


def test_the_ticks_of_a_loop_may_be_as_many_as_a_row_holds():
    assert Limits.of(None, None, "1us", 1.0).tick_s == 1e-6


def test_a_grid_of_steps_of_its_own_has_none_to_search():
    spec = spec_of(shape=(2,), grid=TimeGrid([999, 500, 0]))
    Limits.of("1s", "batch", None, 1.0).check(spec)
    with pytest.raises(ArgumentError, match=r"grid has 3 steps, .* --find batch"):
        Limits.of("1s", "steps", None, 1.0).check(spec)


@pytest.mark.slow
def test_cold_starts_are_told_apart(cli, tabular_bundle):
    result = cli("bench", tabular_bundle, "--batch", "1", "--runs", "8", "--cold", "2")
    assert result.exit_code == 0, result.stderr
    assert "cold start: " in result.stdout
    assert "2 starts, medians" in result.stdout
