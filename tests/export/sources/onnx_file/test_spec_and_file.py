"""A spec that contradicts its file is refused in words that help, and nothing is written."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_files import write_denoiser

from revstep.engine.errors import ExportError
from revstep.export import export_onnx
from revstep.export.sources.onnx_file.spec_file import read_toml, spec_of, split

ROOT = Path(__file__).parents[4]

SPEC = {
    "prediction": "sample",
    "schedule": {"kind": "ve", "sigma_max": 20.0},
    "time": {"kind": "sigma", "fractions": True},
    "inputs": {"state": "noisy", "time": "sigma"},
}
LABEL = {"label": "label"}


def without(name):
    return {key: value for key, value in SPEC.items() if key != name}


def names(**inputs):
    return {"inputs": {**SPEC["inputs"], **inputs}}


CONTRADICTIONS = {
    "a state that is not there": (
        {**SPEC, "inputs": {"state": "noise", "time": "sigma"}}, {},
        r"for the spec's state: unknown input 'noise'; did you mean 'noisy'\?.*\[inputs\] state",
    ),
    "a time that is not there": (
        {**SPEC, "inputs": {"state": "noisy"}}, {},
        r"for the spec's time: unknown input 'timestep'; allowed: noisy, sigma",
    ),
    "a condition that is not there": (
        {**SPEC, "conditions": [{"name": "y"}]}, LABEL,
        r"for the spec's y: unknown input 'y'; allowed: noisy, sigma, label",
    ),
    "an input of the file that nothing feeds": (
        SPEC, LABEL,
        r"takes 'label', int64 \(B,\) too.*\[\[conditions\]\] name = \"label\".*\[constants\]",
    ),
    "an input that is fed twice": (
        {**SPEC, "conditions": [{"name": "strength"}], **names(strength="sigma")}, {},
        "input 'sigma' is named twice",
    ),
    "a name of no input": (
        {**SPEC, **names(label="noisy")}, {},
        r"\[inputs\] names no input of the spec: label; allowed: state, time",
    ),
    "another shape": (
        {**SPEC, "shape": [3, 4, 4]}, {},
        r"the input 'noisy', float32 \(B, 2, 4, 4\) is neither \(rows, 3, 4, 4\) nor",
    ),
    "channels that come last in the spec alone": (
        {**SPEC, "shape": [2, 4, 4], **names(state={"name": "noisy", "channels_last": True})}, {},
        r"neither \(rows, 4, 4, 2\)",
    ),
    "a learned variance that is there": (
        SPEC, {"twice": True}, "twice the channels: learned_variance = true",
    ),
    "a learned variance that is not there": (
        {**SPEC, "learned_variance": True}, {}, "learned_variance = false",
    ),
    "fractions of whole times": (
        {**SPEC, "time": {"kind": "index", "fractions": True}}, {"time_dtype": "int64"},
        r"the time is the input 'sigma', int64 \(B,\), whole numbers.*fractions = true",
    ),
    "levels as whole times": (
        {**SPEC, "time": {"kind": "sigma"}}, {"time_dtype": "int32"}, 'kind = "sigma"',
    ),
    "a time that is an embedding": (SPEC, {"time_shape": ("B", 8)}, r"'sigma', float32 \(B, 8\)"),
    "a condition of another dtype": (
        {**SPEC, "conditions": [{"name": "label", "dtype": "float32"}]}, LABEL,
        r"condition 'label' is float32, and the file takes int64: dtype = \"int64\"",
    ),
    "a condition of another shape": (
        {**SPEC, "conditions": [{"name": "context", "shape": [5]}]}, {"context": "context"},
        r"the input 'context', float32 \(B, 3\) is neither \(rows, 5\)",
    ),
    "a batch that the file fixes": (
        {**SPEC, "batch": [1, 8]}, {"rows": 3, "time_shape": (3,), "baked": True},
        r"takes 3 rows a call \(its first axis, .*batch = \[1, 8\]: leave batch out",
    ),
    "many rows of one time": (
        {**SPEC, "batch": [1, 8]}, {"time_shape": (), "baked": True},
        r"takes 1 rows a call \(it takes one 'sigma' for all rows",
    ),
    "several rows that the file fixes, of one time": (
        {**SPEC, "shape": [2, 4, 4]}, {"rows": 3, "time_shape": ()},
        "a call takes 3 rows but one 'sigma' for all",
    ),
    "other rows of the time": (SPEC, {"rows": 3, "time_shape": (2,)}, "has 2 rows, and the state"),
    "an output that is not there": (
        {**SPEC, "output": "denoise"}, {}, "unknown output 'denoise'; did you mean 'denoised'",
    ),
    "a constant of no input": (
        {**SPEC, "constants": {"train": False}}, {}, r"\[constants\] names no input: train",
    ),
    "a constant that does not fit": (
        {**SPEC, "constants": {"label": [1, 2, 3]}}, {**LABEL, "label_shape": (2,)},
        r"label = \[1, 2, 3\] can't be the input 'label'.*shape is \(3,\); allowed: \(2,\), or one",
    ),
    "a constant that is no number": (
        {**SPEC, "constants": {"label": "3"}}, LABEL, "label = '3' can't be .* give a number",
    ),
    "a constant that would be cut": (
        {**SPEC, "constants": {"label": 2.5}}, LABEL, "label = 2.5 can't be .* a whole number",
    ),
    "a constant below its type": (
        {**SPEC, "constants": {"label": -1}}, {**LABEL, "label_dtype": "uint8"},
        "label = -1 can't be .* a whole number that uint8 has",
    ),
    "a constant that is too large": (
        {**SPEC, "constants": {"context": 1e9}}, {"context": "context", "dtype": "float16"},
        "float16 has no number as large",
    ),
    "a state of one number": (
        {**SPEC, "inputs": {"state": "sigma", "time": "noisy"}}, {},
        r"the state is the input 'sigma', float32 \(B,\), which is one number a row",
    ),
    "a time of many numbers": (
        {**SPEC, "conditions": [{"name": "g"}], **names(time="context", g="sigma")},
        {"context": "context"},
        r"'context', float32 \(B, 3\) can't be the time, which is one number a row",
    ),
    "a field of another type": (
        {**SPEC, "grid_offset": 1.5}, {}, "the spec's grid_offset must be a whole number",
    ),
    "conditions that are no list": (
        {**SPEC, "conditions": 5}, {}, "the spec's conditions must be a list",
    ),
    "a condition with a name of another meaning": (
        {**SPEC, "conditions": [{"name": "time"}], **names()}, {"label": "time"},
        r"a condition is named 'time'.*given_time",
    ),
    "a decoder": ({**SPEC, "decoder": {"shape": [3, 8, 8]}}, {}, "nothing that decodes"),
    "an unknown field": (
        {**SPEC, "predicton": "sample"}, {},
        "unknown field of the spec: predicton; did you mean 'prediction'",
    ),
    "an unknown field of the schedule": (
        {**SPEC, "schedule": {"kind": "ve", "sigmamax": 80.0}}, {},
        "unknown field of the schedule 've': sigmamax; did you mean 'sigma_max'",
    ),
    "an unknown field of a condition": (
        {**SPEC, "conditions": [{"name": "label", "klasses": 5}]}, LABEL,
        r"unknown field of the spec's conditions\[0\]: klasses; did you mean 'classes'",
    ),
    "an unknown field of an input": (
        {**SPEC, **names(time={"name": "sigma", "scala": 2.0})}, {},
        "unknown field of the input 'time': scala; did you mean 'scale'",
    ),
    "an unknown kind of schedule": (
        {**SPEC, "schedule": {"kind": "vpp"}}, {}, "unknown schedule 'vpp'; did you mean 'vp'",
    ),
    "a schedule without its kind": ({**SPEC, "schedule": {"steps": 10}}, {}, "with its kind"),
    "an unknown sampler": (
        {**SPEC, "sampler": "huen"}, {}, "unknown sampler 'huen'; did you mean 'heun'",
    ),
    "an option that its sampler hasn't": (
        {**SPEC, "sampler": {"name": "ddim", "options": {"eat": 1.0}}}, {}, "no option.*'?eta",
    ),
    "an unknown prediction": (
        {**SPEC, "prediction": "noise"}, {}, "unknown prediction 'noise'",
    ),
    "no prediction": (without("prediction"), {}, "the spec lacks 'prediction', what the network"),
    "no schedule": (without("schedule"), {}, "the spec lacks 'schedule', the noise schedule"),
    "a scale of the state": (
        {**SPEC, **names(state={"name": "noisy", "scale": 2.0})}, {}, "times' alone; 'state'",
    ),
    "rows that depend on each other": (
        SPEC, {"mixes_rows": True}, "gives a row another output with the rows beside it",
    ),
    "random numbers inside": (SPEC, {"random": True}, "two different outputs for the same inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_says_what_and_how_to_fix_it(tmp_path, case):
    values, form, message = CONTRADICTIONS[case]
    file = write_denoiser(tmp_path / "model.onnx", **form)
    with pytest.raises((ExportError, ValueError), match=message):
        export_onnx(file, values, tmp_path / "x.revstep")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx"]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


TOML = """
prediction = "sample"
schedule = { kind = "ve", sigma_max = 20.0 }
[time]
kind = "sigma"
[[conditions]]
name = "context"
null = { file = "null.npy" }
[inputs]
state = "noisy"
time = "sigma"
"""


def test_a_spec_file_may_name_an_array_beside_it(tmp_path):
    file = write_denoiser(tmp_path / "model.onnx", context="context")
    spec = write(tmp_path / "spec.toml", TOML)
    with pytest.raises(ExportError, match=r"'context''s null: .*null.npy is no .npy file"):
        export_onnx(file, spec, tmp_path / "x.revstep")
    np.save(tmp_path / "null.npy", np.array([0.5, -1.0, 2.0], np.float32))
    bundle = export_onnx(file, spec, tmp_path / "x.revstep")
    assert np.array_equal(bundle.spec.conditions[0].null, [0.5, -1.0, 2.0])


def test_the_spec_in_the_docs_is_one(tmp_path):
    page = (ROOT / "docs" / "onnx-files.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    values = read_toml(write(tmp_path / "spec.toml", text))
    values["conditions"][0]["dtype"] = "int64"  # which is the file's
    own, names = split({**values, "shape": [3, 8, 8]})
    assert spec_of(own).conditions[0].null == 10
    assert names.inputs["time"].scale == -1.0
    assert names.constants == {"train": False}


def test_a_mistake_in_a_spec_file_names_the_file(tmp_path):
    file = write_denoiser(tmp_path / "model.onnx", context="context")
    spec = write(tmp_path / "spec.toml", "predicton = 'sample'\n")
    with pytest.raises(ExportError, match=r"spec.toml: unknown field of the spec: predicton"):
        export_onnx(file, spec, tmp_path / "x.revstep")
    with pytest.raises(ExportError, match=r"spec.toml can't be read as TOML"):
        export_onnx(file, write(spec, "a = ["), tmp_path / "x.revstep")
    five = "conditions = 5\n" + TOML[: TOML.index("[[")] + TOML[TOML.index("[inputs]") :]
    with pytest.raises(ExportError, match=r"spec.toml: the spec's conditions must be a list"):
        export_onnx(file, write(spec, five), tmp_path / "x.revstep")
    with pytest.raises(ExportError, match=r"none.toml does not exist; revstep inspect"):
        export_onnx(file, tmp_path / "none.toml", tmp_path / "x.revstep")


@pytest.mark.parametrize("spec", [5, None, ["a"]])
def test_what_is_no_spec_is_refused(tmp_path, spec):
    file = write_denoiser(tmp_path / "model.onnx")
    with pytest.raises(TypeError, match=r"spec maps names to values.*a TOML file or a Denoiser"):
        export_onnx(file, spec, tmp_path / "x.revstep")


@pytest.mark.parametrize("content", [b"", b"not ONNX at all", b"\x08\x08"])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"model.onnx is no ONNX"):
        export_onnx(path, SPEC, tmp_path / "x.revstep")


@pytest.mark.parametrize("output", ["noisy", "table"])
def test_a_file_that_computes_nothing_is_refused(tmp_path, output):
    file = write_denoiser(tmp_path / "model.onnx")
    model = onnx.load(file)
    state = model.graph.input[0]
    model.graph.output[0].CopyFrom(state)
    model.graph.output[0].name = output
    if output == "table":
        weight = numpy_helper.from_array(np.zeros((1, 2, 4, 4), np.float32), output)
        model.graph.initializer.append(weight)
    del model.graph.node[1:]
    onnx.save(model, file)
    with pytest.raises(ExportError, match=r"given back as it is|computes nothing"):
        export_onnx(file, SPEC, tmp_path / "x.revstep")


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ExportError, match=r"none.onnx does not exist"):
        export_onnx(tmp_path / "none.onnx", SPEC, tmp_path / "x.revstep")
    with pytest.raises(ExportError, match="is a folder"):
        export_onnx(tmp_path, SPEC, tmp_path / "x.revstep")
