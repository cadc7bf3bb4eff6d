"""``load`` takes what was chosen for this CPU, and says what it passes over."""

import copy
import logging
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from damage import edit_manifest, flip
from winners import ELSEWHERE, put_winner

import revstep
from revstep.engine.backends.chosen import ChosenDenoiser
from revstep.engine.bundle.reader import Bundle
from revstep.engine.open import winners as opening
from revstep.errors import BackendError, BundleError

RUN = {"steps": 4, "seed": 3, "conditions": {"observation": np.zeros(4, np.float32)}}


@pytest.fixture
def path(copy_of, policy_bundle):
    pytest.importorskip("onnxruntime")
    return copy_of(policy_bundle)


@pytest.fixture
def said(caplog):
    """The warnings so far."""
    caplog.set_level(logging.WARNING, "revstep")
    return lambda: " ".join(r.getMessage() for r in caplog.records if r.levelname == "WARNING")


@pytest.fixture
def rewritten(path):
    """Another file with the same network."""
    return Path(shutil.copy(path / "denoiser.fp32.onnx", path.parent / "other.onnx"))


def load(path, **options):
    return revstep.load(path, device="cpu", **options)


def chosen(engine):
    return {c["rows"]: c for c in engine.describe().get("chosen", [])}


def test_the_winners_run_and_nothing_is_said(path, said, monkeypatch):
    monkeypatch.setattr(opening, "usable_threads", lambda: 2)
    put_winner(path, 1, choice={"threads": 1})
    put_winner(path, 8, choice={"threads": 2})
    assert {rows: c["threads"] for rows, c in chosen(load(path)).items()} == {1: 1, 8: 2}
    assert said() == ""


def test_a_rewritten_graph_runs_in_the_bundles_place(path, rewritten):
    put_winner(path, 4, graph=rewritten)
    engine = load(path)
    assert chosen(engine)[4]["rewrites"] == ["any"]
    assert engine.describe()["checked"] is True
    want = load(path, backend="onnxruntime", threads=1).sample(3, **RUN)
    np.testing.assert_array_equal(engine.sample(3, **RUN).x, want.x)
    (path / Bundle.open(path).compiled[0].file).unlink()
    with pytest.raises(BundleError, match=r"is missing.*compile .* --target cpu .* --batch 4"):
        load(path)


def test_a_backend_that_is_named_runs_the_graph_as_it_was_exported(path, said, rewritten):
    put_winner(path, 1, graph=rewritten)
    engine = load(path, backend="onnxruntime")
    assert "chosen" not in engine.describe()
    assert "--target onnxruntime" in said()  # which was not checked


@pytest.mark.parametrize(("fields", "reason"), ELSEWHERE)
def test_what_was_chosen_elsewhere_is_passed_over_with_the_command(path, said, fields, reason):
    put_winner(path, 1, **fields)
    put_winner(path, 8, **fields)
    engine = load(path)
    assert "chosen" not in engine.describe()
    assert engine.describe()["backend"] == "onnxruntime"
    assert engine.sample(1, **RUN).x.shape == (1, 8, 2)
    assert said().count(reason) == 1
    assert f"what was chosen for this network on a CPU is passed over: {reason}" in said()
    assert f"Choose here with: revstep compile {path} --target cpu --batch 1,8" in said()


def test_a_runtime_that_is_not_installed_is_named_with_its_extra(path, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    put_winner(path, 1, runtime="openvino", version="2026.4.1")
    assert "chosen" not in load(path).describe()
    assert "pip install 'revstep[openvino]'" in said()


def test_what_holds_is_kept_where_the_rest_does_not(path, said):
    put_winner(path, 1)
    put_winner(path, 8, version="0.1")
    assert list(chosen(load(path))) == [1]
    assert "some of what was chosen" in said()


def test_threads_that_are_given_take_the_place_of_those_that_were_chosen(path):
    put_winner(path, 1, choice={"threads": 4096})
    assert chosen(load(path, threads=2))[1]["threads"] == 2
    with pytest.raises(ValueError, match="threads=0 is out of range"):
        load(path, threads=0)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [(None, {1: "fp32", 8: "bf16"}), ("fp32", {1: "fp32", 8: "fp32"}), ("bf16", {8: "bf16"})],
)
def test_a_precision_takes_its_own_winners(path, precision, expected):
    put_winner(path, 1)
    put_winner(path, 8, precision="bf16", runtime="openvino")
    put_winner(path, 8)
    entries = opening.winners(Bundle.open(path), precision)
    assert {e.batch[1]: e.precision for e in entries} == expected


def test_bf16_that_was_asked_for_and_is_slower_runs_where_it_is_asked_for_again(path):
    put_winner(path, 1, precision="bf16", runtime="openvino", choice={"seconds": 0.005})
    put_winner(path, 1)
    bundle = Bundle.open(path)
    assert [e.precision for e in opening.winners(bundle, None)] == ["fp32"]
    assert [e.precision for e in opening.winners(bundle, "bf16")] == ["bf16"]


def test_what_was_measured_here_goes_before_what_was_faster_elsewhere(path):
    put_winner(path, 1, choice={"processor": "PDP-11", "seconds": 1e-6})
    put_winner(path, 1, precision="bf16", runtime="openvino")
    assert [e.precision for e in opening.winners(Bundle.open(path), None)] == ["bf16"]


def test_bf16_needs_no_graph_of_its_own_where_it_was_chosen(path):
    openvino = pytest.importorskip("revstep.engine.backends.ov.library")
    if not openvino.installed() or not openvino.has_bf16():
        pytest.skip("no OpenVINO, or no bf16, on this machine")
    version = openvino.version()
    put_winner(path, 4, precision="bf16", runtime="openvino", version=version)
    for precision in (None, "bf16"):
        engine = load(path, precision=precision)
        assert engine.describe()["precision"] == "bf16"
        assert engine.sample(2, **RUN).x.shape == (2, 8, 2)
    assert load(path, precision="fp32").describe()["precision"] == "fp32"


def test_no_winner_in_fp16_is_no_matter(path, said):
    put_winner(path, 1)
    assert opening.open_winners(Bundle.open(path), "fp16") is None
    assert said() == ""


@pytest.mark.parametrize("way", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_takes_the_winners_too(path, way):
    put_winner(path, 2)
    engine = load(path, reproducible=True)
    again = way(engine)
    assert again.describe() == engine.describe()
    np.testing.assert_array_equal(again.sample(2, **RUN).x, engine.sample(2, **RUN).x)


def test_the_same_bits_alone_and_in_company_when_reproducible(path, rewritten):
    put_winner(path, 1)
    put_winner(path, 16, graph=rewritten)
    engine = load(path, reproducible=True)
    whole = engine.sample(5, **RUN).x
    for k in range(5):
        np.testing.assert_array_equal(engine.sample(1, **{**RUN, "seed": 3 + k}).x[0], whole[k])


def test_a_damaged_rewritten_graph_is_refused_with_the_command(path, rewritten):
    entry = put_winner(path, 4, graph=rewritten)
    flip(path / entry.file, 900)
    with pytest.raises(BundleError, match=r"content was changed; make it anew with: revstep comp"):
        load(path)


def test_buckets_are_padded_to_as_ever(path):
    put_winner(path, 1)
    put_winner(path, 8)
    engine = load(path, buckets=(4,))
    want = load(path, backend="onnxruntime", threads=1, buckets=(4,)).sample(3, **RUN)
    np.testing.assert_array_equal(engine.sample(3, **RUN).x, want.x)


def test_a_graph_that_does_not_fit_is_passed_over(path, tabular_bundle, said):
    put_winner(path, 1, graph=tabular_bundle / "denoiser.fp32.onnx")
    assert "chosen" not in load(path).describe()
    assert "its spec names" in said()


def test_a_choice_that_cannot_be_bound_is_passed_over(path, said, monkeypatch):
    def bind(self, buffers):
        raise BackendError("no primitive for these rows")

    put_winner(path, 1)
    monkeypatch.setattr(ChosenDenoiser, "bind", bind)
    assert "chosen" not in load(path).describe()
    assert "as it can't run: no primitive for these rows" in said()


def test_a_bundle_without_choices_says_nothing_of_them(path, said):
    load(path)
    assert "chosen" not in said()
    edit_manifest(path, lambda m: m["engines"].clear())
    with pytest.raises(BackendError):
        load(path, backend="tensorrt")


@pytest.mark.parametrize(
    ("figures", "checked", "text"),
    [
        ({"status": "slower", "parity": {"forward": {}, "ddim20": {}}}, True, ""),
        ({"status": "slower", "parity": {"forward": {}}}, False, "for one forward pass alone"),
        ({"status": "wrong", "parity": {"forward": {}}}, False, "has not been checked"),
        ({"status": "slower", "parity": {"forward": {}, "ddim20": {}}, "rewrites": ["mish"]},
         False, "has not been checked"),
    ],
)  # fmt: skip
def test_what_a_choice_was_measured_against_was_checked_too(path, said, figures, checked, text):
    pytest.importorskip("openvino")
    one = {"runtime": "openvino", "precision": "fp32", "rewrites": [], **figures}
    put_winner(path, 1, choice={"candidates": (one,)})
    assert load(path, backend="openvino").describe()["checked"] is checked
    assert (text in said()) if text else not said()
