"""The target ``cpu`` and the networks beside the denoiser: measured, recorded, opened."""

import logging

import numpy as np
import onnxruntime
import pytest
from damage import change_weight, edit_manifest, scale_one, snapshot
from winners import ELSEWHERE, put_winner

import revstep
from revstep.engine.backends.ov import library
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BundleError, ParityError
from revstep.export import compile_bundle
from revstep.export.targets.cpu import plan, process
from revstep.export.targets.cpu.beside import Beside

KEYS = ["encoder.text", "decoder", "picture_encoder"]
TOKENS = {"tokens": np.arange(6)}

# a runtime beside ONNX Runtime, whose encoders are off by a factor
OFF = """
from revstep.engine.backends import registry
from revstep.engine.backends.onnx_part import OrtPart

class Off(OrtPart):
    rows = 1

    def run(self, feeds):
        return [value * FACTOR for value in super().run(feeds)]

    def describe(self):
        return {**super().describe(), "version": "9.9"}

def opened(wanted):
    return Off(wanted.bundle.part_graph(wanted.key, "fp32"), wanted.who, threads=wanted.threads)

def slow(wanted):
    import time
    from revstep.engine.backends.onnx_part import OrtPart

    class Slow(OrtPart):
        def run(self, feeds):
            time.sleep(0.01)
            return super().run(feeds)

    return Slow(wanted.bundle.part_graph(wanted.key, "fp32"), wanted.who, threads=wanted.threads)

BACKENDS = registry.BACKENDS
BACKENDS["openvino"] = BACKENDS["openvino"]._replace(part_on_cpu=opened)
BACKENDS["onnxruntime"] = BACKENDS["onnxruntime"]._replace(part_on_cpu=slow)
"""


def chosen(path, **options):
    return compile_bundle(
        path, target="cpu", **{"seconds": 0.3, "threads": 1, "batch": 1} | options
    )


@pytest.fixture
def fast(monkeypatch):
    """A function: OpenVINO in candidates' processes gives that many times what it should."""

    def put(factor):
        monkeypatch.setattr(plan, "installed", lambda: ["onnxruntime", "openvino"])
        monkeypatch.setattr(process, "MAIN", f"FACTOR = {factor}\n{OFF}{process.MAIN}")

    return put


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(plan, "installed", lambda: ["onnxruntime"])


def test_each_has_an_entry_that_load_opens(reading_bundle, copy_of, alone, caplog):
    path = copy_of(reading_bundle)
    entries = chosen(path)
    beside = [e for e in entries if e.part is not None]
    assert [e.part for e in beside] == KEYS
    assert Bundle.open(path).compiled_parts == tuple(beside)
    for entry in beside:
        assert (entry.runtime, entry.version) == ("onnxruntime", onnxruntime.__version__)
        assert entry.batch == (1, 8)
        assert entry.parity["forward"]["error"] <= entry.parity["forward"]["bound"]
        assert ("ddim20" in entry.parity) == (entry.part == "encoder.text")
        assert [c["status"] for c in entry.choice.candidates] == ["chosen", "missing"]
    (plain,) = [e for e in Bundle.open(path).compiled if e.target == "onnxruntime"]
    assert set(KEYS) < set(plain.parity)
    caplog.clear()
    engine = revstep.load(path, device="cpu")
    assert set(engine.describe()["parts"]) == set(KEYS)
    assert [r for r in caplog.records if "runs in" in r.getMessage()] == []
    again = chosen(path)
    assert Bundle.open(path).compiled_parts == tuple(e for e in again if e.part)


def test_a_faster_runtime_is_chosen_and_checked_to_the_end(reading_bundle, copy_of, fast):
    fast(1.0 + 1e-6)
    path = copy_of(reading_bundle)
    beside = [e for e in chosen(path) if e.part]
    assert {(e.runtime, e.version, e.batch) for e in beside} == {("openvino", "9.9", (1, 1))}
    assert beside[0].parity["ddim20"]["error"] <= 1e-3


def test_one_that_is_wrong_is_not_taken(reading_bundle, copy_of, fast):
    fast(1.01)
    beside = [e for e in chosen(copy_of(reading_bundle)) if e.part]
    assert {e.runtime for e in beside} == {"onnxruntime"}
    assert beside[0].choice.candidates[1]["status"] == "wrong"


def test_encoders_that_spoil_the_run_stay_in_onnx_runtime(
    reading_bundle, copy_of, fast, monkeypatch
):
    fast(1.0 + 1e-6)
    path, real = copy_of(reading_bundle), Beside._prove

    def strict(self, track, trial, encoders, chosen):
        if any(t.candidate.runtime == "openvino" for t in chosen.values()):
            raise fake_refusal()
        real(self, track, trial, encoders, chosen)

    def fake_refusal():
        from revstep.export.targets.cpu.candidate import WRONG, Refused

        return Refused(WRONG, "a DDIM-20 run differs")

    monkeypatch.setattr(Beside, "_prove", strict)
    found = {e.part: e.runtime for e in chosen(path) if e.part}
    assert found == {
        "encoder.text": "onnxruntime", "decoder": "openvino", "picture_encoder": "openvino",
    }  # fmt: skip


def test_a_wrong_encoder_fails_the_compile(reading_bundle, copy_of, alone):
    path = copy_of(reading_bundle)
    change_weight(path, scale_one, name="picture_encoder.onnx")
    before = snapshot(path)
    with pytest.raises(ParityError, match="beside the denoiser: the picture encoder differs"):
        chosen(path)
    assert snapshot(path) == before


@pytest.mark.skipif(not library.installed(), reason="OpenVINO is not installed")
def test_openvino_itself_takes_part_and_what_it_won_runs(observing_bundle, copy_of):
    path = copy_of(observing_bundle)
    (entry,) = [e for e in chosen(path) if e.part]
    tried = {c["runtime"]: c["status"] for c in entry.choice.candidates}
    assert tried["openvino"] in ("chosen", "tied", "slower")
    want = revstep.load(path, device="cpu", backend="onnxruntime")
    edit_manifest(path, lambda m: m.update(engines=[]))
    put_winner(path, 1)
    put_part(path, "encoder.observation", "openvino", library.version())
    engine = revstep.load(path, device="cpu")
    assert engine.describe()["parts"]["encoder.observation"]["backend"] == "openvino"
    inputs = {"image": np.zeros((1, 8, 8)), "state": np.ones(5)}
    got = engine.encode(inputs=inputs)["context"]
    np.testing.assert_allclose(got, want.encode(inputs=inputs)["context"], atol=1e-5)


def put_part(path, key, runtime, version, **options):
    batch = {"batch": (1, 1), "key": f"part{key}"}
    return put_winner(path, 1, runtime=runtime, version=version, part=key, **{**batch, **options})


@pytest.mark.parametrize(("fields", "reason"), ELSEWHERE)
def test_what_was_chosen_elsewhere_is_passed_over(reading_bundle, copy_of, caplog, fields, reason):
    caplog.set_level(logging.WARNING, "revstep")
    path = copy_of(reading_bundle)
    put_winner(path, 1)
    given = {"runtime": "onnxruntime", "version": onnxruntime.__version__} | fields
    put_part(path, "encoder.text", **given)
    engine = revstep.load(path, device="cpu")
    assert "chosen" in engine.describe()
    (said,) = [r.getMessage() for r in caplog.records if reason in r.getMessage()]
    assert "the encoder 'text' runs in ONNX Runtime on the CPU: what was chosen" in said
    assert f"revstep compile {path} --target cpu --batch 1" in said
    assert engine.encode(inputs=TOKENS)["pooled"].shape == (8,)


def test_an_entry_of_a_part_that_is_not_there_is_refused(policy_bundle, copy_of):
    path = copy_of(policy_bundle)
    put_part(path, "decoder", "onnxruntime", onnxruntime.__version__)
    with pytest.raises(BundleError, match="is of 'decoder', which the spec lacks"):
        revstep.load(path)
