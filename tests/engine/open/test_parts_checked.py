"""What is beside a denoiser that compile has checked: whether it was checked where it runs."""

import logging

import pytest
from damage import edit_manifest
from winners import put_winner

import revstep
from revstep.engine.backends.ov import library
from revstep.engine.bundle.layout import part_precision
from revstep.engine.bundle.reader import Bundle
from revstep.engine.open.checked import PartRun, warn_unless_part_checked
from revstep.engine.system.machine import has_bf16
from revstep.export import compile_bundle

pytest.importorskip("onnxruntime")
if not library.installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

KEYS = {
    "encoder.text": "encoder 'text'",
    "decoder": "latent decoder",
    "picture_encoder": "picture encoder",
}
BF16 = pytest.param(
    "bf16", marks=pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
)


@pytest.fixture
def path(copy_of, reading_bundle):
    return copy_of(reading_bundle)


@pytest.fixture
def unchecked(path, caplog):
    """A function: loads it in OpenVINO and gives (network, precision) of each warning."""
    caplog.set_level(logging.WARNING, "revstep")

    def load(precision):
        caplog.clear()
        revstep.load(path, backend="openvino", device="cpu", threads=1, precision=precision)
        return [(r.args[1], r.args[2]) for r in caplog.records if r.name.startswith("revstep")]

    return load


def checked(precision, **figures):
    """A choice that was measured against OpenVINO in that precision."""
    one = {
        "runtime": "openvino", "precision": precision, "rewrites": [], "status": "slower",
        "parity": {"forward": {}, **figures},
    }  # fmt: skip
    return {"candidates": (one,)}


@pytest.mark.parametrize("precision", ["fp32", BF16])
def test_networks_that_were_not_checked_where_they_run_are_named(path, unchecked, precision):
    put_winner(path, 1, choice=checked(precision, ddim20={}))
    runs_in = {key: precision if key.startswith("encoder.") else "fp32" for key in KEYS}
    assert sorted(unchecked(precision)) == sorted((KEYS[key], runs_in[key]) for key in KEYS)
    for key in KEYS:
        put_winner(path, 1, part=key, choice=checked(runs_in[key]))
    assert unchecked(precision) == []


def test_the_warning_has_the_command_that_checks_them(path, unchecked, caplog):
    put_winner(path, 1, choice=checked("fp32", ddim20={}))
    unchecked("fp32")
    assert caplog.records[0].getMessage() == (
        f"{path}: the latent decoder (fp32) has not been checked against its reference on "
        f"OpenVINO; run: revstep compile {path} --target cpu --precision fp32"
    )


def test_what_is_float32_beside_a_denoiser_in_fp16_was_checked_with_it(path):
    entry = put_winner(path, 1, precision="fp16").to_dict()
    entry |= {"target": "onnxruntime", "choice": None}
    entry["parity"] |= {key: {"error": 0.0, "bound": 1e-4} for key in KEYS}
    edit_manifest(path, lambda m: m.update(engines=[entry]))
    bundle = Bundle.open(path)
    for key, what in KEYS.items():
        for precision in ("fp32", "fp16"):
            run = PartRun(key, what, "onnxruntime", precision)
            checked = warn_unless_part_checked(bundle, run, "onnxruntime", "fp16")
            assert checked is (precision == part_precision(key, "fp16"))


def test_another_precision_or_a_failed_check_is_none(path, unchecked):
    put_winner(path, 1, choice=checked("fp32", ddim20={}))
    put_winner(path, 1, part="decoder", choice=checked("bf16"))
    wrong = checked("fp32")["candidates"][0] | {"status": "wrong"}
    put_winner(path, 1, part="picture_encoder", choice={"candidates": (wrong,)})
    assert len(unchecked("fp32")) == 3


def test_a_denoiser_that_was_not_checked_is_warned_of_for_all(path, unchecked):
    edit_manifest(path, lambda m: m["engines"].clear())
    assert len(unchecked("fp32")) == 1


def test_what_compile_has_checked_in_onnx_runtime_is_not_warned_of(path, caplog):
    compile_bundle(path, target="onnxruntime", threads=1)
    caplog.set_level(logging.WARNING, "revstep")
    revstep.load(path, backend="onnxruntime", device="cpu", threads=1)
    assert caplog.records == []
