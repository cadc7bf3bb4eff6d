"""The rewritten forms of a bundle's graph, made when they are asked for."""

import importlib.util
import shutil

import pytest

from revstep.engine.bundle.reader import Bundle
from revstep.export.rewrite import apply
from revstep.export.targets.cpu import graphs as module
from revstep.export.targets.cpu.candidate import Refused
from revstep.export.targets.cpu.graphs import Graphs

pytest.importorskip("onnx")


@pytest.fixture
def graph(policy_bundle, tmp_path):
    return shutil.copy(Bundle.open(policy_bundle).graph("fp32"), tmp_path / "x.onnx")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    return made


def test_a_form_is_made_once_and_the_exported_graph_is_none(graph, folder, monkeypatch):
    forms = Graphs(graph, folder)
    assert forms.reason == ""
    assert forms.all["onnxruntime"] == apply.applicable(graph, "onnxruntime") != ()
    assert forms.all["openvino"] == apply.applicable(graph, "openvino")
    file = forms.file(forms.all["onnxruntime"])
    assert file.is_file()
    assert forms.file(()) is None
    monkeypatch.setattr(apply, "rewrite_graph", None)
    assert forms.file(forms.all["onnxruntime"]) == file


def test_a_form_is_named_by_what_changed_the_graph(graph, folder, monkeypatch):
    monkeypatch.setattr(apply, "applicable", lambda graph, runtime: ("a", "b"))
    monkeypatch.setattr(
        apply, "rewrite_graph", lambda graph, out, names: tuple(n for n in names if n != "b")
    )
    forms = Graphs(graph, folder)
    assert forms.all["openvino"] == forms.form(("a", "b")) == forms.form(("a",)) == ("a",)
    assert forms.file(("a", "b")) == forms.file(("a",))
    assert forms.form(("b",)) == ()
    assert forms.file(("b",)) is None


def test_a_rewrite_that_fails_refuses_its_candidate(graph, folder, monkeypatch):
    forms = Graphs(graph, folder)

    def fails(graph, out, names):
        raise ValueError("no such node")

    monkeypatch.setattr(apply, "rewrite_graph", fails)
    with pytest.raises(Refused, match="can't be rewritten: no such node"):
        forms.file(("another",))
    again = Graphs(graph, folder)
    assert not again.all
    assert again.reason == "the graph can't be rewritten: no such node"


def test_what_is_not_rewritten_says_why(graph, folder, monkeypatch):
    weights = graph.with_name("x.onnx.data")
    weights.write_bytes(b"0" * 99)
    forms = Graphs(graph, folder)
    assert (forms.all, forms.bytes) == ({}, graph.stat().st_size + 99)
    assert "weights in files of their own" in forms.reason
    weights.unlink()
    monkeypatch.setattr(module, "LARGEST", 10)
    assert "more than 2 GB" in Graphs(graph, folder).reason
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "needs onnx: pip install 'revstep[export]'" in Graphs(graph, folder).reason
