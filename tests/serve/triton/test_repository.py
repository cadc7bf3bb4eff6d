"""What a deploy writes, and what it refuses."""

import dataclasses
import json
import shutil

import pytest

import revstep
from revstep.errors import ArgumentError, BundleError
from revstep.serve.triton import repository
from revstep.serve.triton.config import network_config, sampling_config
from revstep.serve.triton.repository import write_models
from revstep.serve.triton.settings import Settings


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_two_models_with_the_bundle_copied(policy_bundle, tmp_path):
    deployed = write_models(policy_bundle, tmp_path / "models", name="arm")
    bundle = [f"arm/1/bundle.revstep/{name}" for name in files(policy_bundle)]
    assert files(tmp_path / "models") == sorted(
        ["arm/config.pbtxt", "arm/1/model.py", *bundle,
         "arm_network/config.pbtxt", "arm_network/1/model.onnx"]
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == [tmp_path / "models"]
    assert deployed.bundle == tmp_path / "models/arm/1/bundle.revstep"
    assert deployed.precision == "fp32"
    copy = revstep.Bundle.open(deployed.bundle)
    assert copy.manifest == revstep.Bundle.open(policy_bundle).manifest
    wanted = (policy_bundle / "denoiser.fp32.onnx").read_bytes()
    assert (deployed.network / "1" / "model.onnx").read_bytes() == wanted


def test_a_reference_is_the_bundles_absolute_path(policy_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(policy_bundle.parent)
    deployed = write_models(policy_bundle.name, tmp_path / "models", reference=True, network=False)
    assert files(tmp_path / "models") == ["policy/1/model.py", "policy/config.pbtxt"]
    assert deployed.bundle == policy_bundle.resolve()
    assert f'string_value: "{policy_bundle.resolve()}"' in (
        deployed.sampling / "config.pbtxt"
    ).read_text("utf-8")


def test_other_models_stay_and_nothing_is_overwritten_unasked(
    policy_bundle, tabular_bundle, tmp_path
):
    other = tmp_path / "models" / "resnet"
    (other / "1").mkdir(parents=True)
    (other / "config.pbtxt").write_text('backend: "python"\n')
    write_models(policy_bundle, tmp_path / "models", name="x")
    before = {
        name: (tmp_path / "models" / name).read_bytes() for name in files(tmp_path / "models")
    }
    with pytest.raises(FileExistsError, match="x exists; pass --overwrite"):
        write_models(tabular_bundle, tmp_path / "models", name="x")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="no model that a deploy wrote"):
            write_models(tabular_bundle, tmp_path / "models", name="resnet", overwrite=overwrite)
    after = {name: (tmp_path / "models" / name).read_bytes() for name in files(tmp_path / "models")}
    assert after == before
    (tmp_path / "models/x/1/old.txt").write_text("of the old model")
    write_models(tabular_bundle, tmp_path / "models", name="x", overwrite=True)
    assert not (tmp_path / "models/x/1/old.txt").exists()
    assert revstep.Bundle.open(tmp_path / "models/x/1/bundle.revstep").spec.name == "row"
    assert (other / "config.pbtxt").read_text() == 'backend: "python"\n'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models"]
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["resnet", "x", "x_network"]


def test_a_failure_leaves_what_was_there(policy_bundle, tabular_bundle, tmp_path, monkeypatch):
    write_models(policy_bundle, tmp_path / "models", name="x")
    before = {
        name: (tmp_path / "models" / name).read_bytes() for name in files(tmp_path / "models")
    }

    def full(*_):
        raise OSError(28, "No space left on device", "model.onnx")

    monkeypatch.setattr(repository, "_write_network", full)
    with pytest.raises(OSError, match="No space left"):
        write_models(tabular_bundle, tmp_path / "models", name="x", overwrite=True)
    after = {name: (tmp_path / "models" / name).read_bytes() for name in files(tmp_path / "models")}
    assert after == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models"]


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ArgumentError, "letters, digits", {"name": "a/b"}),
        (ArgumentError, "letters, digits", {"name": ".hidden"}),
        (ArgumentError, "instances=0 is out of range", {"instances": 0}),
        (ValueError, "device", {"device": "gpu"}),
        (
            ArgumentError,
            "slots=17 is out of range; allowed: .* 1 to 16",
            {"settings": {"slots": 17}},
        ),
        (BundleError, "holds no fp16 graph", {"settings": {"precision": "fp16"}}),
        (BundleError, "unknown precision 'fp61'", {"settings": {"precision": "fp61"}}),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    policy_bundle, tmp_path, error, message, options
):
    if "settings" in options:
        options = {"settings": Settings(**options["settings"])}
    with pytest.raises(error, match=message):
        write_models(policy_bundle, tmp_path / "models", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_bundle_is_refused(policy_bundle, copy_of, tmp_path):
    copy = copy_of(policy_bundle)
    graph = copy / "denoiser.fp32.onnx"
    data = bytearray(graph.read_bytes())
    data[100] ^= 1
    graph.write_bytes(data)
    with pytest.raises(BundleError, match=r"denoiser\.fp32\.onnx"):
        write_models(copy, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_precision_is_that_of_both_models(image_bundle, tmp_path):
    settings = Settings(precision="fp16")
    deployed = write_models(image_bundle, tmp_path / "models", settings=settings)
    assert deployed.precision == "fp16"
    wanted = (image_bundle / "denoiser.fp16.onnx").read_bytes()
    assert (deployed.network / "1" / "model.onnx").read_bytes() == wanted


@pytest.mark.parametrize("name", ["image", "policy", "tabular"])
def test_the_networks_configuration_names_what_the_graph_has(name, request):
    ort = pytest.importorskip("onnxruntime")
    bundle = revstep.Bundle.open(request.getfixturevalue(f"{name}_bundle"))
    config = network_config(bundle.spec, "cpu")
    session = ort.InferenceSession(bundle.graph("fp32"))
    types = {
        "tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(bool)": "TYPE_BOOL",
    }  # fmt: skip

    def as_backend_sees(field):
        dims = field["reshape"]["shape"] if "reshape" in field else field["dims"]
        return field["name"], field["data_type"], list(dims)

    for fields, ports in (
        (config["input"], session.get_inputs()),
        (config["output"], session.get_outputs()),
    ):
        assert [as_backend_sees(f) for f in fields] == [
            (port.name, types[port.type], port.shape[1:]) for port in ports
        ]


def test_a_network_that_needs_several_rows_is_not_batched_by_triton(policy_bundle):
    spec = revstep.Bundle.open(policy_bundle).spec
    for batch, rows in (((2, 16), -1), ((4, 4), 4)):
        config = network_config(dataclasses.replace(spec, batch=batch), "cpu")
        assert config["max_batch_size"] == 0
        assert "dynamic_batching" not in config
        assert [f["dims"] for f in config["input"]] == [[rows, 8, 2], [rows], [rows, 4]]
        assert [f["dims"] for f in config["output"]] == [[rows, 8, 2]]
    config = network_config(spec, "cpu")
    assert (config["max_batch_size"], config["dynamic_batching"]) == (16, {})


@pytest.mark.parametrize(
    ("device", "group"),
    [
        ("auto", {"count": 2, "kind": "KIND_AUTO"}),
        ("cpu", {"count": 2, "kind": "KIND_CPU"}),
        ("cuda", {"count": 2, "kind": "KIND_GPU"}),
        ("cuda:1", {"count": 2, "kind": "KIND_GPU", "gpus": [1]}),
    ],
)
def test_instances(policy_bundle, device, group):
    spec = revstep.Bundle.open(policy_bundle).spec
    assert sampling_config(spec, Settings(), device, 2)["instance_group"] == [group]


def test_a_condition_without_a_null_value_is_required(policy_bundle):
    spec = revstep.Bundle.open(policy_bundle).spec
    (condition,) = spec.conditions

    def inputs(null):
        conditions = (dataclasses.replace(condition, null=null),)
        changed = dataclasses.replace(spec, conditions=conditions)
        return {f["name"]: f for f in sampling_config(changed, Settings(), "cpu", 1)["input"]}

    assert inputs(0.0)["conditions.observation"]["optional"]
    assert "null_conditions.observation" in inputs(0.0)
    assert "optional" not in inputs(None)["conditions.observation"]
    assert "null_conditions.observation" not in inputs(None)
    assert inputs(None)["conditions.observation"]["dims"] == [-1, 4]


def test_the_command(policy_bundle, tmp_path):
    from typer.testing import CliRunner

    from revstep.cli import app

    def run(*arguments):
        return CliRunner().invoke(app, ["deploy", str(policy_bundle), *map(str, arguments)])

    written = run("--triton", tmp_path / "models", "--slots", 4, "--json")
    assert written.exit_code == 0, written.stderr
    assert json.loads(written.stdout) == {
        "sampling": str(tmp_path / "models/policy"),
        "network": str(tmp_path / "models/policy_network"),
        "bundle": str(tmp_path / "models/policy/1/bundle.revstep"),
        "precision": "fp32",
    }
    again = run("--triton", tmp_path / "models")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "pass --overwrite" in again.stderr
    replaced = run("--triton", tmp_path / "models", "--overwrite", "--no-network")
    assert replaced.exit_code == 0, replaced.stderr
    assert "copied" in replaced.stdout
    shutil.rmtree(tmp_path / "models")
    wrong = run("--triton", tmp_path / "models", "--slots", 99)
    assert wrong.exit_code == 2
    assert "--slots 99 is out of range; allowed: whole numbers, 1 to 16" in wrong.stderr
    assert not (tmp_path / "models").exists()
    assert run().exit_code == 2
