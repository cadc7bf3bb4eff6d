"""What exporters note in a graph is forgotten; the line of each node and others' notes stay."""

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from revstep.export.graph.metadata import forget_exporter

HOME = "/home/somebody/secret"
STACK = f'File "{HOME}/net.py", line 7, in forward\n    y = sauce(x)'
NOTES = {
    "namespace": HOME,
    "pkg.torch.onnx.stack_trace": STACK,
    "pkg.torch.onnx.fx_node": HOME,
    "pkg.onnxscript.rewriter.rule_name": HOME,
    "pkg.mine.note": "kept",
}
KEPT = {"pkg.mine.note": "kept"}
LINED = {**KEPT, "revstep.line": "net.py:7"}


def noted(made, **notes):
    helper.set_model_props(made, {**NOTES, **notes})
    return made


def value(name, shape=("b",)):
    return noted(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


@pytest.fixture
def path(tmp_path):
    """A file with notes everywhere, a subgraph, a function, and weights that are not there."""
    weight = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT)
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="missing.data")
    inner = helper.make_graph(
        [noted(helper.make_node("Relu", ["x"], ["r"], name="r"))], "inner", [], [value("r")]
    )
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["m"])], "other", [], [value("m")])
    nodes = [
        noted(helper.make_node("Add", ["x", "w"], ["s"], name="s")),
        helper.make_node("Own", ["s"], ["o"], domain="own", name="o"),
        noted(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("x"), helper.make_tensor_value_info("c", TensorProto.BOOL, ())],
        [value("y")], [noted(weight)], value_info=[value("s")],
    )  # fmt: skip
    body = [noted(helper.make_node("Relu", ["a"], ["b"]))]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    function = noted(helper.make_function("own", "Own", ["a"], ["b"], body, imports))
    model = helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=10)
    onnx.save(noted(noted(model, **{"author": "somebody else"})), tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


def forgotten(path):
    """The file's model, as it is written after."""
    model = ir.load(path)
    forget_exporter(model, here=False)
    return ir.serde.serialize_model(model)


def notes(made):
    return {p.key: p.value for p in made.metadata_props}


def test_only_the_line_and_notes_of_others_stay(path):
    before = onnx.load(path, load_external_data=False)
    model = forgotten(path)
    graph = model.graph
    data = model.SerializeToString()
    assert b"somebody/secret" not in data
    assert b"sauce" not in data
    assert notes(model) == KEPT
    inner_values = [v for v in graph.value_info if v.name == "s"]
    for found in (*graph.input[:1], *graph.output, *inner_values, *graph.initializer):
        assert notes(found) == KEPT
    (inner,) = (a.g for a in graph.node[2].attribute if a.name == "then_branch")
    (function,) = model.functions
    assert [notes(n) for n in (*graph.node, *inner.node, *function.node)] == [
        LINED, {}, LINED, LINED, LINED,
    ]  # fmt: skip
    assert notes(function) == KEPT
    assert [n.op_type for n in graph.node] == [n.op_type for n in before.graph.node]


def test_a_doc_string_that_is_a_stack_goes_and_another_stays():
    calls = f"{HOME}/net.py(8): forward\n{HOME}/all.py(9): <module>\n"
    script = (
        f'  File "{HOME}/net.py", line 9\n@torch.jit.script\ndef f(x):\n    sauce(x) <--- HERE\n'
    )
    nodes = [
        ir.node("Relu", [ir.val("x")], doc_string=calls),
        ir.node("Relu", [ir.val("x")], doc_string=STACK),
        ir.node("Relu", [ir.val("x")], doc_string=script),
        ir.node("Relu", [ir.val("x")], doc_string="the first layer (2): see net.py"),
    ]
    model = ir.Model(ir.Graph([], [], nodes=nodes, opset_imports={"": 20}), ir_version=10)
    forget_exporter(model, here=False)
    assert [n.doc_string for n in nodes] == [None] * 3 + ["the first layer (2): see net.py"]
    lines = [n.metadata_props.get("revstep.line") for n in nodes]
    assert lines == ["net.py:8", "net.py:7", "net.py:9", None]


def test_twice_is_once(path):
    model = ir.load(path)
    forget_exporter(model, here=False)
    once = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    forget_exporter(model, here=False)
    assert ir.serde.serialize_model(model).SerializeToString(deterministic=True) == once
