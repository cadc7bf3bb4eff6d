"""Random small modules: what export takes equals the module, what it refuses leaves nothing."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from random_modules import Case, cases
from specs import random_inputs
from zoo.animal import BOUNDS
from zoo.run_graph import run_graph

from revstep.engine.errors import ExportError
from revstep.export import export_module

ROWS = 3
HALVES = ("fp16", "bf16")
QUICK = settings(
    max_examples=8, derandomize=True, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def in_float64(module, inputs):
    """The module's own output, weights and inputs in float64."""
    wide = [torch.from_numpy(v).double() if v.dtype.kind == "f" else torch.from_numpy(v)
            for v in inputs.values()]  # fmt: skip
    with torch.no_grad():
        return module.double().eval()(*wide).numpy()


def check(case, precision="fp32"):
    with tempfile.TemporaryDirectory() as folder:
        spec, path = case.spec(), Path(folder) / "x.revstep"
        if case.fault is not None:
            with pytest.raises(ExportError):
                export_module(case.build(), spec, path, precisions=(precision,))
            assert list(Path(folder).iterdir()) == []
            return
        inputs = random_inputs(spec, ROWS)
        want = in_float64(case.build(), inputs)
        graph = export_module(case.build(), spec, path, precisions=(precision,)).graph(precision)
        for rows in (ROWS, 1):
            got = run_graph(graph, {name: value[:rows] for name, value in inputs.items()})
            error = np.abs(got - want[:rows]).max() / np.sqrt(np.mean(want**2))
            assert error < BOUNDS[precision], error


@QUICK
@given(case=cases(faults=False))
def test_a_random_module_is_exported_as_it_is(case):
    check(case)


@settings(QUICK, max_examples=6)
@given(case=cases().filter(lambda case: case.fault is not None))
def test_a_random_module_with_a_fault_is_refused_before_anything_is_written(case):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", *HALVES])
@settings(QUICK, max_examples=60)
@given(case=cases())
def test_many_random_modules(case, precision):
    check(case, precision)


def test_the_oracle_sees_a_difference():
    case = Case("row", (5,), ("linear",), False, (), None)
    inputs = random_inputs(case.spec(), ROWS)
    other = Case("row", (5,), ("linear", "tanh"), False, (), None)
    assert np.abs(in_float64(case.build(), inputs) - in_float64(other.build(), inputs)).max() > 0.1
