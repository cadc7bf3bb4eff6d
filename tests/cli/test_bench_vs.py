"""``revstep bench --vs``, as a user runs it."""

import importlib.util
import json
import time

import pytest

from revstep.bench.baselines import registry

pytest.importorskip("onnxruntime")

SHORT = ("--runs", "8", "--noise", "0", "--cold", "0", "--threads", "1", "--steps", "2")


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
