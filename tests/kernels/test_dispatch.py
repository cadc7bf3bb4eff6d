"""Choice of the kernels, and what is said without the native ones."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest

from revstep.kernels import StepKernel, backend, dispatch, native_isas, normal_fill
from revstep.kernels import columns as col


@pytest.fixture
def without_native(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    dispatch._native.cache_clear()
    monkeypatch.setattr(dispatch.importlib, "import_module", missing)
    yield
    dispatch._native.cache_clear()


def test_missing_native_kernels_are_reported_once_and_the_reference_runs(
    without_native, make_step, caplog
):
    with caplog.at_level(logging.WARNING, logger="revstep"):
        kernels = [StepKernel(make_step(np.random.default_rng(s))) for s in range(3)]
    assert [kernel.backend for kernel in kernels] == ["reference"] * 3
    assert len(caplog.records) == 1
    assert "native kernels" in caplog.text
    assert native_isas() == ()
    kernels[0].begin()
    kernels[0].step()
    with pytest.raises(ValueError, match="not installed"):
        StepKernel(make_step(np.random.default_rng(0)), backend="native")


def test_reference_can_be_asked_for(make_step):
    assert StepKernel(make_step(np.random.default_rng(0)), backend="reference").isa == "numpy"


def test_unknown_choices_are_refused(make_step):
    buf = make_step(np.random.default_rng(0))
    with pytest.raises(ValueError, match="isa is 'sse9'"):
        StepKernel(buf, isa="sse9")
    with pytest.raises(ValueError, match="backend is 'gpu'"):
        StepKernel(buf, backend="gpu")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"out": np.zeros((2, 4))}, ValueError, "out is float64"),
        ({"out": np.zeros(4, np.float32)}, ValueError, "out is"),
        ({"seed": np.zeros(3, np.uint64)}, ValueError, r"uint64 \[2\]"),
        ({"seed": np.zeros(2, np.int64)}, ValueError, "seed is int64"),
        ({"index": 1.5}, TypeError, "integers"),
        ({"index": -1}, ValueError, "outside"),
        ({"index": [1, 2, 3]}, ValueError, "index has shape"),
    ],
)
def test_normal_fill_refuses_wrong_arguments(change, error, message):
    arguments = {
        "out": np.zeros((2, 4), np.float32),
        "seed": np.zeros(2, np.uint64),
        "index": 0,
        "stream": 0,
    }
    with pytest.raises(error, match=message):
        normal_fill(**(arguments | change))


def test_native_columns_are_the_tables():
    header = Path(__file__).parents[2] / "kernels" / "native" / "step.h"
    names = re.findall(r"\bk(\w+) = (\d+)", header.read_text().split("enum Column")[1])
    numbers = {name: int(number) for name, number in names}
    assert numbers.pop("Columns") == col.COLUMNS
    for name, number in numbers.items():
        column = col.NAMES[number].replace("_", "")
        assert column == name.lower(), f"{name} = {number}"
    assert len(numbers) > 20


@pytest.mark.skipif(backend() != "native", reason="built without native kernels")
def test_baseline_and_scalar_are_always_there():
    assert native_isas()[-2:] == ("baseline", "scalar")
