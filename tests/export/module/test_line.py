"""The line of a module in a stack, as an error shows it and as a graph keeps it."""

import sys
import types

import onnx
import pytest
import torch
from onnx import helper

from revstep.export.module import line
from revstep.export.module.line import LINE, STACK, line_of_node, short_line

INSIDE = f'File "{torch.__file__}", line 1, in forward\n    return f(3): 4'


def stack(file, number=7):
    return f'File "{file}", line {number}, in forward\n    y = x\n{INSIDE}'


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function: a file below a folder, as the module of that name."""
    monkeypatch.setattr(line, "_files", {})

    def add(name, path, folder="somebody"):
        file = tmp_path / folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n" * 6 + "y = x\n")
        made = types.ModuleType(name)
        made.__file__ = str(file)
        monkeypatch.setitem(sys.modules, name, made)
        return file

    return add


def graph_of(path, **notes):
    """A graph of one node ``n`` with these notes."""
    node = helper.make_node("Relu", ["x"], ["y"], name="n")
    helper.set_model_props(node, notes)
    graph = helper.make_graph([node], "g", [], [])
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net_a", "net_a.py"),
        ("models_a.nets.unet", "models_a/nets/unet.py"),
        ("models_b", "models_b/__init__.py"),
    ],
)
def test_the_path_is_below_the_folder_that_the_module_came_from(module, name, path):
    assert short_line(stack(module(name, path)), here=True) == f"{path}:7"


@pytest.mark.parametrize(
    ("file", "short"),
    [
        ("/home/somebody/work/net.py", "net.py"),
        (r"C:\Users\somebody\work\net.py", "net.py"),
        ("net.py", "net.py"),
        ("/tmp/ipykernel_7/12.py", "12.py"),
    ],
)
def test_of_a_file_that_is_no_module_the_name_stays(file, short):
    assert short_line(stack(file), here=False) == f"{short}:7"


def test_a_module_loaded_under_another_name_shows_no_folder(module):
    assert short_line(stack(module("one.two.three", "nets/net.py")), here=True) == "net.py:7"


def test_a_stack_of_libraries_alone_has_no_line():
    other = 'File "/home/a/lib/python3.12/site-packages/torch/nn/modules/linear.py", line 3, in f'
    assert short_line(INSIDE, here=True) == ""
    assert short_line(other, here=False) == ""
    assert short_line("", here=False) == ""


def test_calls_of_the_exporter_without_dynamo_are_read_too():
    calls = f"{torch.__file__}(134): forward\n/home/a/net.py(8): forward\n/home/a/all.py(9): main\n"
    assert short_line(calls, here=False) == "net.py:8"


def test_an_error_shows_the_source_where_this_process_wrote_the_graph(module, tmp_path):
    file = module("net_b", "net_b.py")
    path = graph_of(tmp_path / "g.onnx", **{LINE: short_line(stack(file), here=True)})
    assert line_of_node(path, "node n fails") == f" ({file}, line 7: y = x)"
    assert line_of_node(path, "node m fails") == ""


def test_an_error_in_another_process_shows_no_source_of_a_file_of_that_name(
    module, tmp_path, monkeypatch
):
    file = module("net_c", "net_c.py")
    path = graph_of(tmp_path / "g.onnx", **{LINE: short_line(stack(file), here=False)})
    monkeypatch.syspath_prepend(file.parent)
    assert line_of_node(path, "node n fails") == " (net_c.py, line 7)"


def test_two_files_of_one_name_show_no_source(module, tmp_path):
    short = short_line(stack(module("net_d", "net_d.py")), here=True)
    line._short.cache_clear()
    assert short == short_line(stack(module("net_d", "net_d.py", "another")), here=True)
    path = graph_of(tmp_path / "g.onnx", **{LINE: short})
    assert line_of_node(path, "node n fails") == " (net_d.py, line 7)"


def test_a_graph_of_an_older_export_names_its_line_too(module, tmp_path):
    file = module("net_e", "net_e.py")
    path = graph_of(tmp_path / "g.onnx", **{STACK: stack(file)})
    assert line_of_node(path, "node n fails") == f" ({file}, line 7: y = x)"


def test_a_node_of_a_branch_has_its_line_too(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"], name="n")
    helper.set_model_props(node, {LINE: "net.py:7"})
    branches = {
        f"{name}_branch": helper.make_graph([node], name, [], []) for name in ("then", "else")
    }
    graph = helper.make_graph([helper.make_node("If", ["c"], ["o"], **branches)], "g", [], [])
    onnx.save(helper.make_model(graph), tmp_path / "g.onnx")
    assert line_of_node(tmp_path / "g.onnx", "node n fails") == " (net.py, line 7)"


@pytest.mark.parametrize("note", ["", "net.py", "net.py:", "net.py:x", "net.py:-1"])
def test_a_note_that_is_no_line_is_passed_over(tmp_path, note):
    assert line_of_node(graph_of(tmp_path / "g.onnx", **{LINE: note}), "node n fails") == ""
