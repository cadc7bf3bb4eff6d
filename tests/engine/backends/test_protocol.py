"""The network's buffers: numpy arrays and tensors hold the same, their first rows share memory."""

import numpy as np
import pytest
from specs import spec_of

from revstep import Condition, NetworkBuffers

torch = pytest.importorskip("torch", reason="torch is not installed")

SPEC = spec_of(
    shape=(2, 3),
    conditions=(
        Condition(name="shift", shape=(2,), null=0.5),
        Condition(name="label", dtype="int64", null=7),
    ),
    learned_variance=True,
)
CPU = torch.device("cpu")


def test_arrays_and_tensors_start_with_the_same_values():
    arrays = NetworkBuffers.allocate(SPEC, 3)
    tensors = NetworkBuffers.allocate(SPEC, 3, torch.float16, CPU)
    assert (arrays.x.dtype, arrays.out.dtype) == (np.float32, np.float32)
    assert (tensors.x.dtype, tensors.out.dtype) == (torch.float16, torch.float16)
    assert arrays.out.shape == tuple(tensors.out.shape) == (3, 4, 3)
    for buffers in (arrays, tensors):
        assert not buffers.x.any()
        assert not buffers.t.any()
        assert str(buffers.t.dtype).removeprefix("torch.") == "float32"
        assert buffers.conditions["shift"].tolist() == [[0.5, 0.5]] * 3
        assert buffers.conditions["label"].tolist() == [7] * 3
        assert str(buffers.conditions["label"].dtype).removeprefix("torch.") == "int64"


@pytest.mark.parametrize("device", [None, CPU])
def test_the_first_rows_are_the_same_memory(device):
    buffers = NetworkBuffers.allocate(SPEC, 3, device=device)
    first = buffers.first(2)
    assert len(first.x) == len(first.t) == len(first.out) == 2
    first.t[1] = 4.0
    first.conditions["label"][0] = 5
    assert buffers.t.tolist() == [0.0, 4.0, 0.0]
    assert buffers.conditions["label"].tolist() == [5, 7, 7]


def test_tensors_of_arrays_are_the_same_memory_and_outlive_inference_mode():
    arrays = NetworkBuffers.allocate(SPEC, 2)
    with torch.inference_mode():
        tensors = arrays.tensors()
    assert not tensors.x.is_inference()
    tensors.out.fill_(3.0)
    tensors.conditions["shift"][1] = 9.0
    assert (arrays.out == 3.0).all()
    assert arrays.conditions["shift"].tolist() == [[0.5, 0.5], [9.0, 9.0]]
    assert tensors.tensors() is tensors
