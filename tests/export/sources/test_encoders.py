"""Bundles with encoders: what export writes, checks and refuses, and what compile holds them to."""

import dataclasses
import json

import encoders
import numpy as np
import pytest
import torch
from damage import change_weight, scale_one

import revstep
from revstep.errors import BundleError, ExportError, ParityError
from revstep.export import compile_bundle, export_module
from revstep.export.sources.factory import load_checkpoint


def export(found, path, **changes):
    given = {
        "decoder": found.decoder,
        "encoders": found.encoders,
        "picture_encoder": found.picture_encoder,
        "files": found.files,
    }
    spec = changes.pop("spec", found.spec)
    return export_module(found.module, spec, path, **(given | changes))


def test_a_bundle_holds_every_encoder_in_every_precision(observing_bundle):
    files = set(revstep.Bundle.open(observing_bundle).manifest["files"])
    assert {"encoder.observation.fp32.onnx", "encoder.observation.fp16.onnx"} <= files


def test_the_denoiser_is_tried_with_what_its_encoders_give(reading_bundle):
    parity = revstep.Bundle.open(reading_bundle).parity()
    for name in ("sequence", "pooled"):
        made = parity[f"encoder.text.out.{name}"]
        np.testing.assert_array_equal(parity[f"ddim20.cond.{name}"], made)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_compile_holds_each_encoder_and_the_whole_way_to_pytorch(
    observing_bundle, copy_of, precision
):
    path = copy_of(observing_bundle)
    figures = compile_bundle(path, precision=precision, threads=1).parity
    assert {"forward", "edges", "ddim20", "encoder.observation"} == set(figures)
    change_weight(path, scale_one, name=f"encoder.observation.{precision}.onnx")
    with pytest.raises(ParityError):
        compile_bundle(path, precision=precision, threads=1)


def test_compile_holds_the_picture_encoder_to_pytorch(reading_bundle, copy_of):
    path = copy_of(reading_bundle)
    figures = compile_bundle(path, threads=1).parity
    assert {"encoder.text", "picture_encoder", "decoder"} <= set(figures)
    change_weight(path, scale_one, name="picture_encoder.onnx")
    with pytest.raises(ParityError, match="the picture encoder differs"):
        compile_bundle(path, threads=1)


def test_half_encoders_are_what_a_half_engine_runs(observing_bundle):
    rng = np.random.default_rng(0)
    inputs = {"image": rng.standard_normal((2, 1, 8, 8)), "state": rng.standard_normal((2, 5))}
    whole = revstep.load(observing_bundle).encode(inputs)["context"]
    half = revstep.load(observing_bundle, precision="fp16").encode(inputs)["context"]
    assert 0 < np.abs(whole - half).max() < 1e-2


def test_a_bundle_without_a_tokenizers_file_is_damaged(reading_bundle, copy_of):
    path = copy_of(reading_bundle)
    (path / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        revstep.load(path)


def test_a_manifest_that_lists_no_encoder_is_refused(observing_bundle, copy_of):
    from revstep.engine.bundle.manifest import manifest_digest

    path = copy_of(observing_bundle)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["encoder.observation.fp16.onnx"]
    manifest["digest"] = manifest_digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"no encoder\.observation\.fp16\.onnx"):
        revstep.load(path)


class Random(torch.nn.Module):
    def forward(self, image, state):
        return torch.randn(len(image), encoders.WIDTH)


class Mixing(torch.nn.Module):
    def forward(self, image, state):
        return (state - state.mean(0))[:, :1].repeat(1, encoders.WIDTH)


class Wide(torch.nn.Module):
    def forward(self, image, state):
        return state


class Two(torch.nn.Module):
    def forward(self, image, state):
        return state, state


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Random(), "two different outputs for the same inputs"),
        (Mixing(), "rows depend on each other"),
        (Wide(), r"'context' of shape \(3, 5\), expected \(3, 8\)"),
        (Two(), "returned tuple of Tensor, Tensor.*or a tuple of them for context"),
        (torch.nn.Linear(2, 2), "encoder 'observation' failed on image float32"),
    ],
)  # fmt: skip
def test_a_module_that_is_no_such_encoder_is_refused(tmp_path, module, said):
    found = encoders.observing()
    with pytest.raises(ExportError, match=said):
        export(found, tmp_path / "x.revstep", encoders={"observation": module})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoders": {}}, "need the module text: pass encoders="),
        ({"encoders": [torch.nn.Identity()]}, "encoders maps names to values.*; got list"),
        ({"files": ["tokenizer.json"]}, "files maps names to values.*; got list"),
        ({"encoders": {"text": 0, "image": 0}}, "encoder 'text' must be a torch.nn.Module"),
        ({"picture_encoder": None}, "describes a picture encoder but no such module"),
        ({"files": {}}, r"need the tokenizer's file tokenizer\.json"),
        ({"files": {"tokenizer.json": "/nowhere/x.json"}}, "which is no file"),
    ],
)
def test_parts_and_spec_must_agree(tmp_path, changes, said):
    (tmp_path / "words").mkdir()
    found = encoders.reading(tmp_path / "words")
    with pytest.raises((ExportError, TypeError), match=said):
        export(found, tmp_path / "x.revstep", **changes)
    assert not (tmp_path / "x.revstep").exists()


def test_an_encoder_in_bfloat16_is_held_to_its_own_rounding(tmp_path):
    found = encoders.observing()

    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = found.encoders["observation"].bfloat16()

        def forward(self, image, state):
            dtype = self.inner.linear.weight.dtype
            return self.inner(image.to(dtype), state.to(dtype)).float()

    bundle = export(found, tmp_path / "x.revstep", encoders={"observation": Half()})
    assert bundle.manifest["parity"]["bounds"]["encoder.observation"]["forward"] == 5e-2


def test_a_factory_may_return_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "observing_policy.py").write_text(
        "import encoders\n\ndef build():\n    return encoders.observing()\n"
    )
    found = load_checkpoint("observing_policy:build")
    assert [e.name for e in found.spec.encoders] == ["observation"]
    assert dataclasses.replace(found, decoder=None).encoders.keys() == {"observation"}
