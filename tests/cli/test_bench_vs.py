"""``revstep bench --vs``, as a user runs it."""

import importlib.util
import json
import re
import time
from statistics import median

import pytest

from revstep.bench.baselines import registry
from revstep.bench.measure import engines as engines_of
from revstep.bench.rows import starts_of
from revstep.commands.bench.table import notes
from revstep.commands.bench.versus import versus_lines

pytest.importorskip("onnxruntime")

ROW = {
    "bundle": {"name": "x"}, "engine": {"backend": "onnxruntime", "precision": "fp32"},
    "cell": {"sampler": "ddim", "steps": 20, "guidance": 1.0, "batch": 1},
}  # fmt: skip
SHORT = ("--runs", "8", "--noise", "0", "--cold", "0", "--threads", "1", "--steps", "2",
         "--openings", "1")  # fmt: skip


@pytest.fixture
def planted(monkeypatch):
    """A function: has a baseline's runs do something before they begin, by their round."""
    make = registry.make_baseline

    def plant(before):
        def made(name, given, scheduling):
            baseline = make(name, given, scheduling)
            sample = baseline.sample

            def changed(seed, feed=None):
                if feed is None:
                    before(seed)
                return sample(seed, feed)

            baseline.sample = changed
            return baseline

        monkeypatch.setattr("revstep.bench.baselines.turns.make_baseline", made)

    return plant


def test_baselines_take_turns_and_are_reported(cli, policy_bundle):
    pytest.importorskip("openvino")
    pytest.importorskip("torch")
    vs = "onnxruntime,openvino,torch-eager"
    words = ("bench", policy_bundle, "--batch", "2", "--vs", vs, "--module", "toys:policy", *SHORT)
    result = cli(*words, "--guidance", "2", "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert list(row["vs"]) == vs.split(",")
    assert list(row["times_s"]) == ["revstep", *vs.split(",")]
    for name, found in row["vs"].items():
        assert len(row["times_s"][name]) == found["summary"]["runs"] == 8
        assert found["ratio"]["low"] <= found["ratio"]["ratio"] <= found["ratio"]["high"]
        assert found["verdict"] in ("same", "faster", "slower", "ambiguous")
        assert len(found["differences"]["steps"]) == 2
        assert found["largest_difference"] < 1e-4
    assert row["vs"]["torch-eager"]["title"].startswith("torch ")
    shown = cli(*words)
    assert "against the same work elsewhere" in shown.stdout
    assert "onnxruntime: ONNX Runtime" in shown.stdout


def test_both_sides_are_opened_anew_and_the_interval_is_over_openings(
    cli, tabular_bundle, monkeypatch, caplog
):
    engines, baselines = [], []
    load, make = engines_of.load, registry.make_baseline

    def loads(*arguments, **options):
        engines.append(1)
        return load(*arguments, **options)

    def makes(name, given, scheduling):
        baselines.append(given.work.engine)
        made = make(name, given, scheduling)
        sample, slow = made.sample, len(baselines) == 3

        def changed(seed, feed=None):
            if slow and feed is None:  # what an unlucky place does, and more
                time.sleep(0.05)
            return sample(seed, feed)

        made.sample = changed
        return made

    monkeypatch.setattr(engines_of, "load", loads)
    monkeypatch.setattr("revstep.bench.baselines.turns.make_baseline", makes)
    words = ("bench", tabular_bundle, "--batch", "1", "--vs", "onnxruntime", *SHORT[:-2])
    (row,) = json.loads(cli(*words, "--json").stdout)["rows"]
    assert sum("not been checked" in text for text in caplog.messages) == 1  # not an opening each
    assert len(engines) == 2 * 5  # one is let go, so that neither side is the first
    assert len(baselines) == len({id(engine) for engine in baselines}) == 5
    assert [each["runs"] for each in row["openings"]] == [2, 2, 2, 1, 1]
    slowest = max(median(start) for start in starts_of(row, "onnxruntime"))
    assert slowest > 0.05
    assert row["vs"]["onnxruntime"]["ratio"]["high"] > 5.0  # of five: the largest
    assert row["vs"]["onnxruntime"]["ratio"]["ratio"] < 5.0
    assert next(notes([row])).rpartition("; ")[2].startswith("5 openings, whose medians lie ")
    row["openings"] = row["openings"][:1]
    few = "; opened once; intervals have the scatter of runs alone: --openings 5 has that of openin"
    assert few in next(notes([row]))


def test_more_openings_than_runs_are_refused_before_any_work(cli, tmp_path):
    result = cli("bench", tmp_path / "none.revstep", *SHORT, "--openings", "9")
    assert result.exit_code == 2
    assert "openings=9 must be from 1 to the number of runs, 8" in " ".join(result.stderr.split())


def test_a_grid_s_time_is_an_estimate_where_openings_come_on_top(cli, tabular_bundle):
    words = ("bench", tabular_bundle, "--seconds", "10", "--total", "19", "--cold", "0")
    opened = (*words, "--vs", "onnxruntime")
    said = " ".join(cli(*opened).stderr.split())
    assert "2 cells of about 10 s" in said
    assert "about 20 s (an estimate: 5 openings of its sides come on top)" in said
    assert "2 cells of up to 10 s" in cli(*opened, "--openings", "1").stderr


def test_how_far_openings_lie_apart_is_said():
    row = {
        **ROW, "stopped": "converged", "openings": [{"runs": 2}, {"runs": 1}, {"runs": 3}],
        "times_s": {"revstep": [1.0, 1.0, 1.04, 1.1, 1.02, 1.02]},
        "summary": {"noise": 0.004, "more_runs": {}, "outliers": {}},
        "split": {"steps": {}}, "correct": {"error": 0.0, "bound": 1.0}, "cost": None,
        "memory": {"host_bytes": None, "device_bytes": None}, "disturbance": {"verdict": "quiet"},
    }  # fmt: skip
    first = next(notes([row]))
    assert first.endswith("known to 0.4%; 3 openings, whose medians lie 3.9% apart")


def test_the_differences_of_all_steps_are_shown(cli, tabular_bundle):
    pytest.importorskip("openvino")
    words = ("bench", tabular_bundle, "--batch", "1", "--vs", "openvino", "--openings", "1")
    words = (*words, "--runs", "8", "--noise", "0", "--cold", "0", "--threads", "1")
    shown = cli(*words, "--steps", "3", "--sampler", "ddim").stdout
    assert re.search(r"^openvino differs by step, in 1e-\d\d: (\d\.\d ){2}\d\.\d; the samples \d",
                     shown, re.M)  # fmt: skip
    assert re.search(r"^ +(step [123]|samples)$", shown, re.M)


def test_of_many_steps_some_differences_and_the_ends_are_shown():
    steps = [1e-7 + 1e-9 * number for number in range(50)]
    steps[30], steps[7] = 9.04e-7, 2e-9
    found = {
        "title": "OpenVINO", "differences": {"steps": steps, "final": 3e-7},
    }  # fmt: skip
    (_, line) = versus_lines([{**ROW, "vs": {"openvino": found}}])
    assert line.startswith("openvino differs by step (1, 4, ... of 50), in 1e-07: 1.0 1.0 1.1 ")
    assert "; least 0.0 (step 8), most 9.0 (step 31); the samples 3.0" in line
    assert len(line) < 220


def test_no_difference_at_all_is_said():
    found = {"title": "ORT", "differences": {"steps": [0.0] * 20, "final": 0.0}}
    (_, line) = versus_lines([{**ROW, "vs": {"onnxruntime": found}}])
    assert line == "onnxruntime differs by nothing in all of 20 steps, nor in the samples"


def test_a_planted_slow_baseline_is_slower(cli, tabular_bundle, planted):
    planted(lambda number: time.sleep(0.1))
    words = ("bench", tabular_bundle, "--batch", "1", "--vs", "onnxruntime", *SHORT, "--json")
    (row,) = json.loads(cli(*words).stdout)["rows"]
    assert row["vs"]["onnxruntime"]["verdict"] == "faster"  # revstep is
    assert row["vs"]["onnxruntime"]["ratio"]["low"] > 2.0


def test_ctrl_c_keeps_the_pairs_that_were_measured_and_decides_nothing(
    cli, tabular_bundle, planted
):
    def stops(number):
        if number == 3:
            raise KeyboardInterrupt

    planted(stops)
    words = ("bench", tabular_bundle, "--batch", "1", "--vs", "onnxruntime", "--noise", "0")
    result = cli(*words, "--cold", "0", "--steps", "1", "--json")
    assert result.exit_code == 130
    (row,) = json.loads(result.stdout)["rows"]
    times = row["times_s"]
    assert row["stopped"] == "interrupted"
    assert len(times["revstep"]) == len(times["onnxruntime"]) == 2
    assert row["vs"]["onnxruntime"]["verdict"] == "ambiguous"


def test_a_wrong_baseline_is_not_timed(cli, policy_bundle):
    result = cli(
        *("bench", policy_bundle, "--batch", "1", "--vs", "torch-eager", *SHORT),
        *("--module", "wrong_toys:policy"),
    )
    assert result.exit_code == 1
    assert "'torch-eager'" in result.stderr
    assert "does not do the same work: it differs by" in result.stderr
    assert "p50" not in result.stdout


def test_what_a_baseline_lacks_is_said_before_any_work(cli, tmp_path, monkeypatch):
    bundle = tmp_path / "none.revstep"  # nothing is opened

    def said(*words, code=2):
        result = cli("bench", bundle, *words)
        assert result.exit_code == code, result.output
        return " ".join(result.stderr.split())

    assert "torch-eager, torch-compile, onnxruntime" in said("--vs", "tvm")
    assert "--module package.module:function or --diffusers DIR" in said("--vs", "torch-compile")
    assert "folder that was exported with --diffusers DIR" in said(
        "--vs", "diffusers", "--module", "toys:policy"
    )
    assert "name one of: --module, --diffusers" in said(
        "--vs", "torch-eager", "--module", "toys:policy", "--diffusers", tmp_path
    )
    assert "--module is for baselines that run the PyTorch module" in said(
        "--vs", "onnxruntime", "--module", "toys:policy"
    )
    found = importlib.util.find_spec

    def missing(name, *more):
        return None if name == "openvino" else found(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    text = said("--vs", "openvino", code=1)
    assert "the baseline 'openvino' needs openvino, which is not installed" in text
    assert "pip install 'revstep[openvino]'" in text


def test_a_module_that_is_not_the_bundles_is_refused(cli, policy_bundle):
    words = ("--vs", "torch-eager", "--module", "toys:tabular", *SHORT)
    result = cli("bench", policy_bundle, "--batch", "1", *words)
    assert result.exit_code == 2
    assert "toys:tabular has shape (6,), and the bundle (8, 2)" in result.stderr


def test_diffusers_own_loop_takes_turns(cli, tmp_path):
    pytest.importorskip("diffusers")
    from diffusers_folders import FOLDERS

    from revstep.export import export_diffusers

    FOLDERS["unet_2d"].save(tmp_path / "model")
    bundle = tmp_path / "x.revstep"
    export_diffusers(tmp_path / "model", bundle, null_class=4)
    words = ("bench", bundle, "--batch", "1", "--vs", "diffusers", *SHORT, "--json")
    words = (*words, "--diffusers", tmp_path / "model", "--sampler", "ddim,langevin")
    refused = cli(*words)
    assert refused.exit_code == 2
    assert "no scheduler for the sampler 'langevin'" in refused.stderr
    result = cli(*words[:-1], "ddim,dpmpp_2m")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    titles = [row["vs"]["diffusers"]["title"] for row in rows]
    assert "DDIMScheduler" in titles[0]
    assert "DPMSolverMultistepScheduler" in titles[1]
    assert [row["cell"]["more"]["compat"] for row in rows] == ["diffusers"] * 2
