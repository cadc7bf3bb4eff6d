"""A bundle tells nobody where on which machine it was made, nor how its module is written."""

import importlib
import json
import os
import shutil
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import encoders
import numpy as np
import onnx
import pytest
import torch
import toys
from fake_runtime import put_fake

from revstep.engine.bundle.reader import Bundle
from revstep.export import compile_bundle, compile_kernels, export_module, export_onnx
from revstep.export.module import line
from revstep.export.rewrite.apply import applicable, rewrite_graph
from revstep.export.targets.options import BuildOptions

ROOT = Path(__file__).resolve().parents[2]
MODULE = "private_nets"
PRECISIONS = ("fp32", "fp16", "bf16")
SOURCES = ("with_time = torch", "self.table(tokens) + torch", "flat = torch.cat([x")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder named after nobody, with the test networks as a module in it."""
    folder = tmp_path_factory.mktemp("home_of_nobody")
    shutil.copyfile(encoders.__file__, folder / f"{MODULE}.py")
    return folder


@pytest.fixture
def nets(home, monkeypatch):
    monkeypatch.syspath_prepend(home)
    return importlib.import_module(MODULE)


@pytest.fixture(scope="module")
def bundle(home):
    """A denoiser with an encoder, a picture encoder and a decoder, in every precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(home)
        found = importlib.import_module(MODULE).reading(home)
    return export_module(
        found.module, found.spec, home / "x.revstep", precisions=PRECISIONS,
        decoder=found.decoder, encoders=found.encoders, picture_encoder=found.picture_encoder,
        files=found.files, source={"kind": "factory", "name": f"{MODULE}:reading"},
    ).path  # fmt: skip


def contents(path):
    """Name -> the bytes of every file below a path, and of every member of an archive."""
    found = {}
    for file in (f for f in path.rglob("*") if f.is_file()):
        name = file.relative_to(path).as_posix()
        found[name] = file.read_bytes()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                found |= {f"{name}/{m}": archive.read(m) for m in archive.namelist()}
    return found


def told(path, home):
    """Which files have which of the words that no bundle should have."""
    words = [str(home), home.name, str(ROOT), str(Path(np.__file__).parents[1]), *SOURCES]
    words += [str(Path(torch.__file__).parents[1]), os.path.dirname(os.__file__), "stack_trace"]
    return [
        (name, word)
        for name, data in contents(path).items()
        for word in words
        if word.encode() in data or word.encode("utf-16-le") in data
    ]


def lines_of(graph):
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return {p.value for node in nodes for p in node.metadata_props if p.key == "revstep.line"}


def test_an_exported_bundle_has_no_path_and_no_source(bundle, home):
    assert told(bundle, home) == []
    graphs = sorted(name for name in contents(bundle) if name.endswith(".onnx"))
    assert len(graphs) == 8  # three precisions of two networks, the decoder, the picture encoder
    for name in graphs:
        if "decoder" not in name and "picture" not in name:  # those call torch's own layers alone
            assert lines_of(bundle / name)
        assert all(note.startswith(f"{MODULE}.py:") for note in lines_of(bundle / name))


def test_the_check_finds_what_torch_writes(nets, home, tmp_path):
    torch.onnx.export(
        nets.Policy().eval(), (torch.ones(2, 4, 2), torch.ones(2), torch.ones(2, nets.WIDTH)),
        tmp_path / "g.onnx", dynamo=True, verbose=False,
    )  # fmt: skip
    found = {word for _, word in told(tmp_path, home)}
    assert {str(home), home.name, "flat = torch.cat([x", "stack_trace"} <= found


def test_compiling_adds_none(bundle, home, copy_of):
    path = copy_of(bundle)
    compile_bundle(path, target="onnxruntime")
    compile_bundle(path, target="cpu", batch=1, seconds=0.5, threads=1)
    if find_spec("triton") is not None:
        compile_kernels(path, gpus=("sm_80",))
    assert told(path, home) == []


@pytest.mark.parametrize(
    "opened",
    [
        "raise RuntimeError(f'{wanted.bundle.path} is refused')",
        "print(os.__file__, wanted.bundle.path, file=sys.stderr, flush=True); os._exit(3)",
    ],
)
def test_why_a_candidate_failed_is_told_without_folders(bundle, home, copy_of, monkeypatch, opened):
    put_fake(monkeypatch, opened=opened)
    path = copy_of(bundle)
    (path.parent / home.name).mkdir()
    path = path.rename(path.parent / home.name / "x.revstep")
    entries = compile_bundle(path, target="cpu", batch=1, seconds=0.2, threads=1)
    reasons = [c["reason"] for c in entries[0].choice.candidates if "reason" in c]
    assert any("x.revstep" in reason for reason in reasons)
    assert told(path, home) == []


def test_a_rewritten_graph_keeps_the_lines_alone(home, tmp_path, monkeypatch):
    shutil.copyfile(toys.__file__, home / "private_toys.py")
    monkeypatch.syspath_prepend(home)
    module = importlib.import_module("private_toys").PolicyToy()
    made = export_module(module, toys.POLICY, tmp_path / "x.revstep")
    graph = made.graph("fp32")
    names = applicable(graph)
    assert "conv_2d" in names
    (tmp_path / "rewritten").mkdir()
    rewrite_graph(graph, tmp_path / "rewritten" / "g.onnx", names)
    assert lines_of(tmp_path / "rewritten" / "g.onnx") == lines_of(graph) != set()
    assert told(tmp_path, home) == []


@pytest.mark.tensorrt
def test_a_plan_of_tensorrt_has_none(bundle, home, copy_of):
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)
    path = copy_of(bundle)
    compile_bundle(
        path, target="tensorrt_rtx", precision="fp16", options=BuildOptions(gpus=("sm_89",))
    )
    assert any(name.endswith(".plan") for name in contents(path))
    assert told(path, home) == []


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_file_of_torchs_is_told_from_its_notes(nets, home, tmp_path, dynamo):
    network, batch = nets.Policy().eval(), {0: torch.export.Dim("batch", min=1, max=64)}
    names = ["sample", "timestep", "context"]
    axes = {"dynamic_shapes": (batch,) * 3} if dynamo else {"dynamic_axes": {n: [0] for n in names}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.ones(2, 4, 2), torch.ones(2), torch.ones(2, nets.WIDTH)),
            tmp_path / "model.onnx", dynamo=dynamo, verbose=not dynamo, input_names=names,
            output_names=["out"], **axes,
        )  # fmt: skip
    model = onnx.load(tmp_path / "model.onnx")
    model.metadata_props.add(key="licence", value="of the author")
    onnx.save(model, tmp_path / "model.onnx")
    assert told(tmp_path, home) != []
    spec = nets.observing().spec.to_dict()
    values = {k: spec[k] for k in ("shape", "schedule", "prediction", "conditions", "value_range")}
    made = export_onnx(
        tmp_path / "model.onnx", values, tmp_path / "x.revstep", precisions=PRECISIONS
    )
    assert told(made.path, home) == []
    for precision in PRECISIONS:
        graph = made.graph(precision)
        assert any(note.startswith(f"{MODULE}.py:") for note in lines_of(graph))
        (note,) = onnx.load(graph).metadata_props
        assert (note.key, note.value) == ("licence", "of the author")


def test_an_error_of_another_process_names_the_line(bundle, monkeypatch):
    monkeypatch.setattr(line, "_files", {})
    graph = Bundle.open(bundle).graph("fp16")
    node = next(n for n in onnx.load(graph).graph.node if n.op_type == "Conv")
    (note,) = {p.value for p in node.metadata_props if p.key == "revstep.line"}
    file, _, number = note.partition(":")
    assert line.line_of_node(graph, f"node {node.name} fails") == f" ({file}, line {number})"
    source = Path(encoders.__file__).read_text().splitlines()[int(number) - 1]
    assert "self.convolution(x" in source or "self.out(" in source


def test_the_manifest_has_names_alone(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["provenance"]["source"]["name"] == f"{MODULE}:reading"
