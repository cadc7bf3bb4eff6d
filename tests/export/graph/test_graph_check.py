"""A graph that no runtime loads, or that isn't the module, is refused with the module's line."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from toys import TABULAR, TabularToy

from revstep.engine.errors import ExportError
from revstep.export import export_module
from revstep.export.graph import exporter
from revstep.export.graph.check import check_loads, check_runs
from revstep.export.parity.bounds import BOUNDS
from revstep.export.parity.vectors import make_parity

HERE = __file__
STACK = f'File "{HERE}", line 7, in forward\n    y = x\nFile "{torch.__file__}", line 1, in f\n  z'


def saved(path, node, kind=TensorProto.FLOAT, weights=()):
    """A graph of a tabular spec's inputs and output, made by one node."""
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=STACK)
    x = helper.make_tensor_value_info("row", TensorProto.FLOAT, ["batch", 6])
    t = helper.make_tensor_value_info("t", TensorProto.FLOAT, ["batch"])
    out = helper.make_tensor_value_info("out", kind, ["batch", 6])
    made = helper.make_graph([node], "g", [x, t], [out], list(weights))
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


def test_a_graph_that_cant_be_loaded_names_the_modules_line(tmp_path):
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    node = helper.make_node("Squeeze", ["row", "axes"], ["out"], name="node_squeeze")
    path = saved(tmp_path / "g.onnx", node, weights=[axes])
    with pytest.raises(
        ExportError, match=r"must be 1 instead of 6.* \(.*graph_check.py, line 7"
    ) as e:
        check_loads(path)
    assert "nothing was exported" in str(e.value)


def test_a_graph_that_loads_passes(tmp_path):
    check_loads(saved(tmp_path / "g.onnx", helper.make_node("Relu", ["row"], ["out"], name="n")))


def test_a_graph_with_its_weights_beside_it_passes(tmp_path):
    weight = onnx.numpy_helper.from_array(np.ones((6,), np.float32), "w")
    node = helper.make_node("Mul", ["row", "w"], ["out"], name="n")
    model = onnx.load(saved(tmp_path / "g.onnx", node, weights=[weight]))
    onnx.save(model, tmp_path / "g.onnx", save_as_external_data=True, size_threshold=0)
    assert len(list(tmp_path.iterdir())) == 2
    check_loads(tmp_path / "g.onnx")


def test_a_graph_that_is_not_the_module_is_refused(tmp_path):
    parity = make_parity(TabularToy(), TABULAR)
    path = saved(tmp_path / "g.onnx", helper.make_node("Relu", ["row"], ["out"], name="n"))
    with pytest.raises(
        ExportError, match=r"does not do what the module does.*differs from the reference"
    ):
        check_runs(path, TABULAR, parity, BOUNDS["fp32"])
    parity["out"] = np.maximum(parity["x"], 0)
    check_runs(path, TABULAR, parity, BOUNDS["fp32"])


def test_an_operator_that_onnx_runtime_lacks_is_refused_with_its_line(tmp_path):
    node = helper.make_node("BitwiseNot", ["row"], ["out"], name="n")
    path = saved(tmp_path / "g.onnx", node)
    with pytest.raises(
        ExportError, match=r"ONNX Runtime can't run.*BitwiseNot.*\(.*graph_check.py, line 7"
    ):
        check_runs(path, TABULAR, make_parity(TabularToy(), TABULAR), BOUNDS["fp32"])


class Squeezed(nn.Module):
    """Squeezes an axis that is not 1 long, which does nothing."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(6, 6)

    def forward(self, x, t):
        return self.f(x).squeeze(1) + t[:, None]


def test_a_defect_that_no_pass_knows_is_refused_at_export(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "fix", lambda model: None)
    with pytest.raises(ExportError, match=r"must be 1.*line \d+: return self.f\(x\).squeeze\(1\)"):
        export_module(Squeezed(), TABULAR, tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []


class Determined(nn.Module):
    """Uses an operator that ONNX lacks."""

    def forward(self, x, t):
        square = x[:, :4].reshape(-1, 2, 2)
        return x + 1e-3 * torch.linalg.lu_factor(square)[0].reshape(-1, 4)[:, :1] + t[:, None]


def test_what_onnx_has_no_form_of_is_named_with_its_line(tmp_path):
    with pytest.raises(ExportError, match=r"no ONNX form.*line \d+: return x \+ 1e-3.*lu_factor"):
        export_module(Determined(), TABULAR, tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []
