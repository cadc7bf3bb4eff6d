"""Plans of what is beside a denoiser: built for real by TensorRT-RTX, which needs no GPU for it."""

import dataclasses
import json
import os

import encoders
import pytest
from damage import disk_full, edit_manifest, flip, snapshot
from typer.testing import CliRunner

from revstep import Decoder
from revstep.cli import app
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BundleError, Cancelled, CompileError
from revstep.export import compile_bundle, export_module
from revstep.export.targets.jobs import compile_jobs, plan_jobs
from revstep.export.targets.options import BuildOptions, Profile
from revstep.export.targets.trt_compile import NOT_CHECKED

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)

pytestmark = pytest.mark.tensorrt

RTX = "tensorrt_rtx"
ADA = BuildOptions(gpus=("sm_89",), optimization_level=0)
KEYS = ["encoder.text", "picture_encoder", "decoder"]


def compiled(path, batch, **options):
    return compile_bundle(path, target=RTX, batch=batch, options=ADA, **options)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    """Tokens to two conditions, pictures to latents, and latents to pictures in tiles; no plan."""
    folder = tmp_path_factory.mktemp("tiled")
    made = encoders.reading(folder)
    decoder = Decoder(shape=(3, 8, 8), scale=0.5, tile=(2, 3))
    spec = dataclasses.replace(made.spec, decoder=decoder, batch=(1, 16))
    export_module(
        made.module, spec, folder / "tiled.revstep", precisions=("fp32", "fp16"), files=made.files,
        decoder=made.decoder, encoders=made.encoders, picture_encoder=made.picture_encoder,
    )  # fmt: skip
    return folder / "tiled.revstep"


@pytest.fixture(scope="module")
def built(tiled, tmp_path_factory):
    """The same with plans of 1 and of 4 rows in fp16, of one command; and what it returned."""
    import shutil

    path = tmp_path_factory.mktemp("parts") / "built.revstep"
    shutil.copytree(tiled, path)
    outcomes = compile_jobs(path, plan_jobs([RTX], ["fp16"], [1, 4]), options=ADA)
    return path, [outcome.made for outcome in outcomes]


def test_one_plan_of_each_network_serves_all_batches_of_a_command(built):
    path, made = built
    bundle = Bundle.open(path)
    assert list(bundle.compiled) == made  # the denoiser's, as ever
    assert [entry.batch for entry in made] == [(1, 1), (4, 4)]
    found = {entry.part: entry for entry in bundle.compiled_parts}
    assert list(found) == KEYS
    for key, entry in found.items():
        assert entry.precision == ("fp16" if key == "encoder.text" else "fp32")
        assert (entry.target, entry.runtime, entry.version) == (RTX, RTX, trt.__version__)
        assert (entry.batch, entry.tuned, entry.device) == ((1, 4), 1, "sm_89")
        assert entry.parity == NOT_CHECKED
        assert bundle.manifest["files"][entry.file]["bytes"] > 1000
    files = {entry.file for entry in (*bundle.compiled, *bundle.compiled_parts)}
    assert {f"engines/{p.name}" for p in (path / "engines").iterdir()} == files
    assert len(files) == 5


def test_the_plans_are_engines_of_tensorrt(built):
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    malformed = int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE.value)
    for entry in Bundle.open(built[0]).compiled_parts:
        header = (built[0] / entry.file).read_bytes()[: runtime.engine_header_size]
        assert not runtime.get_engine_validity(header)[1] & malformed


def test_what_is_finished_is_not_built_again(built, copy_of):
    path = copy_of(built[0])
    before, calls = snapshot(path), []
    again = compiled(path, 4, precision="fp16", progress=lambda *args: calls.append(args))
    assert again == built[1][1]
    assert compiled(path, 1, precision="fp16") == built[1][0]  # plans of more rows will do
    assert snapshot(path) == before
    assert len(calls) == 1


def test_more_rows_replace_the_plans_and_another_precision_shares_what_is_fp32(built, copy_of):
    path = copy_of(built[0])
    before = {entry.part: entry for entry in Bundle.open(path).compiled_parts}
    shown = []
    compiled(path, 4, precision="fp32", progress=lambda text, *_: shown.append(text))
    after = {(e.part, e.precision): e for e in Bundle.open(path).compiled_parts}
    assert len(after) == 4
    assert {"the encoder 'text'", "a denoiser"} == {text.partition(":")[0] for text in shown[:-1]}
    for key, entry in before.items():
        assert after[key, entry.precision] == entry
    compiled(path, Profile(2, 4, 16), precision="fp16")
    wide = {(e.part, e.precision): e.batch for e in Bundle.open(path).compiled_parts}
    assert wide.pop(("encoder.text", "fp32")) == (1, 4)
    assert set(wide.values()) == {(1, 8)}
    assert len(wide) == 3
    assert len(list((path / "engines").iterdir())) == 8


def test_a_single_row_is_a_static_plan(observing_bundle, copy_of):
    path = copy_of(observing_bundle)
    entry = compiled(path, 1)
    bundle = Bundle.open(path)
    assert bundle.compiled == (entry,)
    (part,) = bundle.compiled_parts
    assert (part.part, part.batch, part.tuned) == ("encoder.observation", (1, 1), 1)


def test_a_damaged_plan_names_the_command_that_makes_it_anew(built, copy_of):
    path = copy_of(built[0])
    for entry in Bundle.open(path).compiled_parts:
        flip(path / entry.file, 500)
    command = f"revstep compile {path} --target {RTX} --precision fp16 --batch 4 --gpu sm_89"
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert str(caught.value).endswith(command)
    words = [*command.split()[1:], "--optimization-level", "0"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    whole, again = (Bundle.open(p) for p in (built[0], path))
    assert {e.key for e in again.compiled_parts} == {e.key for e in whole.compiled_parts}


def test_progress_rises_over_all_plans_and_a_cancel_leaves_the_bundle(tiled, copy_of):
    path = copy_of(tiled)
    before, calls = snapshot(path), []

    def cancelled():
        return bool(calls) and calls[-1][0].startswith("the decoder")

    with pytest.raises(Cancelled, match=r"decoder\.onnx"):
        compiled(path, 2, cancelled=cancelled, progress=lambda *args: calls.append(args))
    assert snapshot(path) == before
    done = [d for _, d, _ in calls]
    assert done == sorted(done)
    assert 700 < done[-1] <= 1000
    names = dict.fromkeys(text.partition(":")[0] for text, _, _ in calls)
    assert list(names) == [
        "a denoiser", "the encoder 'text'", "the picture encoder", "the decoder",
    ]  # fmt: skip


def test_a_failure_leaves_the_bundle(tiled, copy_of, monkeypatch):
    path = copy_of(tiled)
    before = snapshot(path)
    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(CompileError, match=r"No space left.*unchanged"):
        compiled(path, 2)
    assert snapshot(path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["picture_encoder"].update(shape=[1, 8, 8]),
         r"picture_encoder\.onnx: input 'picture' is \(-1, 3, 8, 8\); the spec says"),
        (lambda spec: spec["decoder"].update(tile=[4, 4]),
         r"decoder\.onnx: input 'latent' is \(-1, 2, 2, 3\); the spec says"),
    ],
)  # fmt: skip
def test_a_graph_of_another_spec_is_refused(tiled, copy_of, change, message):
    path = copy_of(tiled)
    edit_manifest(path, lambda manifest: change(manifest["spec"]))
    before = snapshot(path)
    with pytest.raises(CompileError, match=message):
        compiled(path, 2)
    assert snapshot(path) == before


def test_info_lists_them(built):
    done = CliRunner().invoke(app, ["info", str(built[0])], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for key in KEYS:
        assert f"{key}: {RTX} {trt.__version__}" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["info", str(built[0]), "--json"])
    assert [e.get("part") for e in json.loads(done.output)["engines"]] == [None, *KEYS, None]
