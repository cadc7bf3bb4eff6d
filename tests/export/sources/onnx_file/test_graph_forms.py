"""Graphs of unusual forms: functions, control flow, other domains, quantised, large."""

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.export import export_onnx
from revstep.export.precision import types
from revstep.export.sources.onnx_file import adapt
from revstep.export.sources.onnx_file.ports import read_file
from revstep.export.sources.onnx_file.runtimes import foreign

SPEC = {
    "prediction": "epsilon",
    "schedule": {"kind": "vp"},
    "name": "x",
    "time": {"name": "t", "kind": "index", "fractions": True},
}
HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "mine" : 1]>\n'
SIGNATURE = "net (float[B,6] x, float[B] t) => (float[B,6] out)"

FUNCTION = """
<domain: "mine", opset_import: ["" : 17]>
shifted (h, s) => (y) { scaled = Mul(h, s) y = Tanh(scaled) }
"""
GRAPHS = {
    "a function": ("column = Unsqueeze(t, one)\nout = mine.shifted(x, column)", FUNCTION),
    "a branch on the time that is taken for all": (
        """
        size = Shape(x)
        rows = Gather(size, zero)
        some = Greater(rows, zero)
        column = Unsqueeze(t, one)
        out = If(some) <
          then_branch = yes () => (float[B,6] a) { b = Mul(x, column) a = Tanh(b) },
          else_branch = no () => (float[B,6] c) { c = Identity(x) }
        >
        """,
        "",
    ),
    "an operator of another domain": (
        """
        column = Unsqueeze(t, one)
        y = Mul(x, column)
        none = Sub(y, y)
        gate = com.microsoft.QuickGelu(none)
        tanh = Tanh(y)
        out = Add(tanh, gate)
        """,
        "",
    ),
}


def model_of(path, body, function="", halves=False):
    text = (
        f"{HEAD}{SIGNATURE} <int64[1] one = {{1}}, int64 zero = {{0}}> {{\n{body}\n}}\n{function}"
    )
    if halves:
        text = text.replace("float[B", "float16[B")
    onnx.save(parse_model(text), str(path))
    return path


def output(bundle):
    """What the bundle's graph gives, and x and t."""
    buffers = NetworkBuffers.allocate(bundle.spec, 3)
    buffers.x[:] = np.random.default_rng(2).standard_normal((3, 6))
    buffers.t[:] = [0.1, 0.5, 2.0]
    OrtDenoiser(bundle.graph("fp32"), bundle.spec, threads=1).bind(buffers)()
    return buffers.out, buffers.x, buffers.t


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("form", GRAPHS)
def test_graphs_of_every_form(tmp_path, form, halves):
    file = model_of(tmp_path / "model.onnx", *GRAPHS[form], halves=halves)
    bundle = export_onnx(file, SPEC, tmp_path / "x.revstep")
    out, x, t = output(bundle)
    np.testing.assert_allclose(out, np.tanh(x * t[:, None]), atol=1e-6)


def test_operators_of_other_domains_are_named(tmp_path):
    body, _ = GRAPHS["an operator of another domain"]
    assert foreign(read_file(model_of(tmp_path / "m.onnx", body))) == ["com.microsoft::QuickGelu"]


def test_a_quantised_file_is_what_it_is(tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    rng = np.random.default_rng(0)
    lines = ("column = Unsqueeze(t, one)", "s = Sin(column)", "h = Mul(x, s)", "k = Identity(h)")
    path = model_of(tmp_path / "plain.onnx", "\n".join((*lines, "out = Tanh(k)")))
    model = onnx.load(str(path))
    weight = rng.standard_normal((6, 6)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    (node,) = (n for n in model.graph.node if n.op_type == "Identity")
    node.op_type = "MatMul"
    node.input.append("w")
    onnx.save(model, str(path))
    quantization.quantize_dynamic(str(path), str(tmp_path / "int8.onnx"))
    file = read_file(tmp_path / "int8.onnx")
    assert "MatMulInteger" in file.operators
    with pytest.raises(Exception, match="gives a row another output with the rows beside it"):
        export_onnx(file.path, SPEC, tmp_path / "x.revstep")  # one scale for the whole batch
    bundle = export_onnx(file.path, {**SPEC, "batch": [1, 1]}, tmp_path / "x.revstep")
    assert bundle.spec.batch == (1, 1)


def test_large_weights_go_into_a_file_beside_the_graph(tmp_path, monkeypatch):
    for module in (types, adapt):
        monkeypatch.setattr(module, "INLINE", 10)
    body = "column = Unsqueeze(t, one)\ny = Mul(x, column)\nh = Identity(y)\nout = Tanh(h)"
    (tmp_path / "in").mkdir()
    file = model_of(tmp_path / "in" / "model.onnx", body)
    model = onnx.load(str(file))
    weight = np.array([0, 0, 1, 0, 0, 2], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    (node,) = (n for n in model.graph.node if n.op_type == "Identity")
    node.op_type = "Add"
    node.input.append("w")
    onnx.save(model, str(file), save_as_external_data=True, location="w.bin", size_threshold=50)
    assert (file.parent / "w.bin").stat().st_size >= 24
    bundle = export_onnx(file, SPEC, tmp_path / "x.revstep")
    assert "denoiser.fp32.onnx.data" in bundle.manifest["files"]
    (file.parent / "w.bin").unlink()
    out, x, t = output(bundle)
    np.testing.assert_allclose(out, np.tanh(x * t[:, None] + weight), atol=1e-6)
