"""Constants near 0 and 1 reach the graph as they are."""

import numpy as np
import pytest
import torch
from specs import spec_of
from zoo.run_graph import run_graph

from revstep import Condition
from revstep.export import export_module
from revstep.export.graph.exact_constants import exact_constants

SPEC = spec_of(shape=(3,), conditions=(Condition(name="goal", shape=(3,)),))


class Safe(torch.nn.Module):
    """A direction, safe for a goal of zeros, and factors near 1."""

    def __init__(self, epsilon):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x, t, goal):
        direction = goal / (goal.abs().sum(-1, keepdim=True) + self.epsilon)
        return x * 1.000009 / 0.999992 - 3e-9 + direction + 1e-3 * t[:, None]


@pytest.mark.parametrize("epsilon", [1e-6, 1e-8, 1e-12])
def test_an_epsilon_of_a_division_stays(epsilon, tmp_path):
    module = Safe(epsilon).eval()
    export_module(module, SPEC, tmp_path / "x.revstep")
    rng = np.random.default_rng(0)
    inputs = {
        "sample": rng.standard_normal((3, 3)).astype(np.float32),
        "timestep": np.array([0.0, 10.0, 999.0], np.float32),
        "goal": np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5], [0.0, 3.0, 0.0]], np.float32),
    }
    want = module(*map(torch.from_numpy, inputs.values())).double().numpy()
    got = run_graph(tmp_path / "x.revstep/denoiser.fp32.onnx", inputs)
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-7)


def test_the_rules_are_back_afterwards():
    from onnxscript import rewriter

    before = rewriter._DEFAULT_REWRITE_RULES
    with exact_constants() as exact:
        assert exact, "this onnxscript keeps its rules elsewhere: the optimiser stays out"
        assert len(rewriter._DEFAULT_REWRITE_RULES) < len(before)
    assert rewriter._DEFAULT_REWRITE_RULES is before
