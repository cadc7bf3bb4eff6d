"""From file to file: names, refusals, determinism, and what must stay."""

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from revstep.engine.errors import ExportError
from revstep.export.rewrite.apply import applicable, rewrite_graph
from revstep.export.rewrite.rewrite import RUNTIMES
from revstep.export.rewrite.table import REWRITES

MODEL = '<ir_version: 10, opset_import: ["" : 20]>\ng (float[batch,8] x) => (float[batch,8] o) {'


@pytest.fixture
def graph(tmp_path):
    def write(body):
        path = tmp_path / "graph.onnx"
        onnx.save(parse_model(f"{MODEL}\n{body}\n}}"), path)
        return path

    return write


def test_every_rewrite_is_named_as_in_the_table():
    for name, rewrite in REWRITES.items():
        assert name == rewrite.name
        assert name == name.lower()
        assert "\n" not in rewrite.reason
        assert set(rewrite.runtimes) <= set(RUNTIMES)


def test_an_unknown_name_is_refused_with_those_that_there_are(graph, tmp_path):
    out = tmp_path / "out.onnx"
    with pytest.raises(ExportError, match=r"no rewrite is called 'mesh'; there are .*mish"):
        rewrite_graph(graph("o = Mish(x)"), out, ["mish", "mesh"])
    assert not out.exists()


def test_a_graph_in_which_nothing_is_found_writes_nothing(graph, tmp_path):
    source, out = graph("o = Neg(x)"), tmp_path / "out.onnx"
    assert applicable(source) == ()
    assert rewrite_graph(source, out, list(REWRITES)) == ()
    assert not out.exists()


def test_the_bytes_are_the_same_each_time(graph, tmp_path):
    source = graph("y = Mish(x)\no = Mish(y)")
    written = []
    for number in range(2):
        out = tmp_path / f"{number}.onnx"
        assert rewrite_graph(source, out, ["mish"]) == ("mish",)
        written.append(out.read_bytes())
    assert written[0] == written[1]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_inputs_outputs_and_the_batch_stay(graph, tmp_path):
    source, out = graph("o = Mish(x)"), tmp_path / "out.onnx"
    rewrite_graph(source, out, ["mish"])
    before, after = onnx.load(source).graph, onnx.load(out).graph
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    names = [o for n in after.node for o in n.output] + [i.name for i in after.initializer]
    assert len(set(names)) == len(names)


def test_weights_in_another_file_are_refused(tmp_path):
    model = parse_model(f"{MODEL}\ny = Mul(x, w)\no = Mish(y)\n}}")
    weight = onnx.numpy_helper.from_array(np.ones((8,), np.float32), "w")
    model.graph.initializer.append(weight)
    source, out = tmp_path / "graph.onnx", tmp_path / "out.onnx"
    onnx.save(model, source, save_as_external_data=True, size_threshold=0)
    assert applicable(source) == ()
    with pytest.raises(ExportError, match="keeps 1 weights in a file beside it"):
        rewrite_graph(source, out, ["mish"])
    assert not out.exists()


def test_the_bodies_of_control_flow_are_left(graph, tmp_path):
    body = """
        flag = Constant<value = bool {1}>()
        y = If (flag) <
            then_branch = yes () => (float[batch,8] a) { a = Mish(x) },
            else_branch = no () => (float[batch,8] b) { b = Neg(x) }
        >
        o = Mish(y)"""
    source, out = graph(body), tmp_path / "out.onnx"
    assert rewrite_graph(source, out, ["mish"]) == ("mish",)
    (branch,) = [n for n in onnx.load(out).graph.node if n.op_type == "If"]
    assert [n.op_type for n in branch.attribute[0].g.node] == ["Mish"]


def test_a_bundles_own_graph_is_rewritten_in_place_of_nothing_else(policy_bundle, tmp_path):
    source = policy_bundle / "denoiser.fp32.onnx"
    before = source.read_bytes()
    out = tmp_path / "out.onnx"
    changed = rewrite_graph(source, out, list(REWRITES))
    assert changed == applicable(source)
    assert source.read_bytes() == before
