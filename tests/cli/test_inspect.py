"""``revstep inspect``, and ``revstep export --onnx`` with the spec that it writes."""

import json
import re
import tomllib

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import onnx
from onnx_files import write_denoiser

import revstep


@pytest.fixture
def model(tmp_path):
    return write_denoiser(tmp_path / "model.onnx", label="label", context="context")


def test_a_file_is_described_with_guesses_and_reasons(cli, model):
    lines = cli("inspect", str(model)).stdout.splitlines()
    assert "model.onnx: opset 17, 23 parameters (float32)" in lines[0]
    assert "written by tests 1" in lines[0]
    rows = {line.split()[1]: " ".join(line.split()) for line in lines[2:7]}
    assert rows["noisy"].startswith("input noisy float32 (B, 2, 4, 4) the noisy state: the output")
    assert rows["sigma"] == "input sigma float32 (B,) the time: one number a row, called 'sigma'"
    assert "a class label: a whole number a row, which reads a table of 5 rows" in rows["label"]
    assert "a vector" in rows["context"]
    assert "the prediction, of 'sample': the output is called 'denoised'" in rows["denoised"]
    assert any(re.match(r"onnxruntime: \d.* reads it", line) for line in lines)
    assert "--write spec.toml" in lines[-1]


def test_the_spec_that_it_writes_asks_what_it_cant_know_and_exports_when_filled_in(
    cli, model, tmp_path
):
    spec, bundle = tmp_path / "spec.toml", tmp_path / "x.revstep"
    result = cli("inspect", str(model), "--write", str(spec))
    assert f"revstep export --onnx {model} --spec {spec} -o model.revstep" in result.stdout
    values = tomllib.loads(spec.read_text())
    assert values["shape"] == [2, 4, 4]
    assert values["prediction"] == "sample"
    assert values["time"] == {"kind": "sigma", "fractions": True}
    assert values["conditions"] == [{"name": "label", "classes": 5}, {"name": "context"}]
    assert values["inputs"] == {"state": "noisy", "time": "sigma"}
    export = ("export", "--onnx", str(model), "--spec", str(spec), "-o", str(bundle))
    failed = cli(*export)
    assert failed.exit_code == 2
    assert "spec.toml: the spec lacks 'schedule', the noise schedule" in failed.stderr
    text = spec.read_text()
    filled = re.sub(r"^# (schedule = \{ kind = \"ve\")", r"\1", text, flags=re.MULTILINE)
    assert filled != text
    spec.write_text(filled)
    done = cli(*export, "--json")
    assert json.loads(done.stdout)["precisions"] == ["fp32"]
    assert "provenance" in json.loads(cli("info", str(bundle), "--json").stdout)
    assert revstep.load(bundle).spec.conditions[0].classes == 5


def test_what_a_name_does_not_say_is_asked(cli, tmp_path):
    model = write_denoiser(
        tmp_path / "m.onnx", state="a b", time="t", output="y", label="state", extra_output=True
    )
    spec = tmp_path / "spec.toml"
    cli("inspect", str(model), "--write", str(spec))
    values = tomllib.loads(spec.read_text())
    assert values["time"] == {"kind": "?"}
    assert "prediction" not in values
    assert values["inputs"] == {"state": "a b", "time": "t", "given_state": "state"}
    assert values["output"] == {}
    assert "[output]  # of hidden, y" in spec.read_text()
    assert '# prediction = "epsilon"' in spec.read_text()


def test_an_input_without_a_shape_is_said_to_need_one(cli, tmp_path):
    model = onnx.load(write_denoiser(tmp_path / "m.onnx"))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "a model.onnx")
    done = cli("inspect", str(tmp_path / "a model.onnx"))
    assert "the file doesn't say its shape, which an export needs" in done.stdout
    assert f"revstep inspect '{tmp_path}/a model.onnx' --write" in done.stdout


def test_a_second_times_questions_are_asked(cli, tmp_path):
    model = write_denoiser(tmp_path / "m.onnx", state="x", time="t", output="u", second="r")
    spec = tmp_path / "spec.toml"
    cli("inspect", str(model), "--write", str(spec))
    text = spec.read_text()
    assert tomllib.loads(text)["inputs"] == {"state": "x", "time": "t", "second_time": "r"}
    assert '# of = "length"  # ? it is how far a step goes; else where it ends' in text
    assert "flow_map by default" in text


def test_channels_that_come_last_are_asked_for_and_any_name_is_toml(cli, tmp_path):
    name = "x \N{GRINNING FACE}"
    model = onnx.load(write_denoiser(tmp_path / "m.onnx", state="x", channels_last=True))
    for port in (model.graph.input[0], model.graph.output[0]):
        for dim, size in zip(port.type.tensor_type.shape.dim[1:], (8, 8, 3), strict=True):
            dim.dim_value = size
    model.graph.input[0].name = name
    model.graph.node[0].input[0] = name
    onnx.save(model, tmp_path / "m.onnx")
    cli("inspect", str(tmp_path / "m.onnx"), "--write", str(tmp_path / "spec.toml"))
    text = (tmp_path / "spec.toml").read_text("utf-8")
    assert tomllib.loads(text)["inputs"]["state"] == name
    assert f'state = {{ name = "{name}", channels_last = true }}, without the shape' in text


def test_json_has_all_of_it(cli, model):
    found = json.loads(cli("inspect", str(model), "--json").stdout)
    assert [one["role"] for one in found["inputs"]] == ["state", "time", "condition", "condition"]
    assert found["inputs"][0]["shape"] == ["B", 2, 4, 4]
    assert (found["output"], found["prediction"]) == ("denoised", "sample")
    assert found["operators"]["Conv"] == 1


def test_mistakes_are_the_callers(cli, model, tmp_path, tabular_bundle):
    spec = tmp_path / "spec.toml"
    spec.write_text("kept")
    result = cli("inspect", str(model), "--write", str(spec))
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert spec.read_text() == "kept"
    result = cli("inspect", str(model), "--write", str(tmp_path / "none" / "spec.toml"))
    assert result.exit_code == 2
    assert f"{tmp_path / 'none'} is no folder" in result.stderr
    result = cli("inspect", str(tabular_bundle))
    assert result.exit_code == 2
    assert f"revstep info {tabular_bundle}" in result.stderr
    result = cli("inspect", str(tmp_path / "none.onnx"))
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
    result = cli("export", "--onnx", str(model), "-o", str(tmp_path / "x"))
    assert result.exit_code == 2
    assert "--onnx FILE and --spec FILE go together" in result.stderr
    result = cli("export", "a:b", "--onnx", str(model), "--spec", "s", "-o", str(tmp_path / "x"))
    assert result.exit_code == 2
    assert "name one of" in result.stderr
