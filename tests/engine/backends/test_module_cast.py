"""A cast changes the floating-point weights, and nothing that it would damage."""

import sys
import threading

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from revstep.engine.backends.module.cast import (  # noqa: E402
    cast_weights,
    copy_module,
    weight_dtype,
)
from revstep.engine.backends.module.denoiser import prepare_module  # noqa: E402

CPU = torch.device("cpu")
TURN = torch.polar(torch.ones(3), torch.tensor([0.3, 1.3, 2.3]))
TABLE = torch.linspace(0, 1, 3, dtype=torch.float64) / 3


class Mixed(nn.Module):
    """A buffer of every kind."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(3, 3)
        self.phase = nn.Parameter(TURN.clone())
        self.register_buffer("turn", TURN.clone())
        self.register_buffer("table", TABLE.clone())
        self.register_buffer("narrow", torch.ones(3, dtype=torch.float16))
        self.register_buffer("whole", torch.arange(3))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("small", torch.ones(3).to(torch.float8_e4m3fn))


KEPT = {
    "phase": torch.complex64, "turn": torch.complex64, "table": torch.float64,
    "whole": torch.int64, "mask": torch.bool, "small": torch.float8_e4m3fn,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_complex_whole_and_narrow_tensors_and_float64_tables_keep_their_dtype(dtype):
    module = cast_weights(Mixed(), dtype, CPU)
    kinds = {name: t.dtype for name, t in module.state_dict().items()}
    assert kinds == {**KEPT, "f.weight": dtype, "f.bias": dtype, "narrow": dtype}
    assert torch.equal(module.turn, TURN)
    assert torch.equal(module.phase, TURN)
    assert torch.equal(module.table, TABLE)


def test_a_module_of_float64_weights_is_cast_whole():
    module = nn.Linear(3, 3).double()
    module.register_buffer("table", TABLE.clone())
    assert weight_dtype(module) == torch.float64
    cast_weights(module, torch.float32, CPU)
    assert {t.dtype for t in module.state_dict().values()} == {torch.float32}


def test_a_live_module_of_complex_buffers_keeps_their_imaginary_part():
    ready = prepare_module(Mixed().eval(), CPU, torch.float16)
    assert torch.equal(ready.turn, TURN)
    assert ready.f.weight.dtype == torch.float16
    assert prepare_module(ready, CPU, torch.float16) is ready


def test_shared_weights_stay_shared():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    copied = cast_weights(copy_module(module), torch.float16, CPU)
    assert copied[0].weight is copied[1].weight
    assert copied[0].weight is not module[0].weight


class Holder:
    """An object that holds what can't be copied, and what must be."""

    def __init__(self, module):
        self.lock = threading.Lock()
        self.of = [{"module": module}]


def test_a_copy_shares_locks_and_modules_and_copies_the_rest():
    module = nn.Linear(3, 3)
    module.lock, module.library = threading.Lock(), sys
    module.parts = {"names": ["a"], "log": sys.stderr}
    module.holder = Holder(module)
    copied = copy_module(module)
    assert copied.lock is module.lock
    assert copied.library is sys
    assert copied.parts == module.parts
    assert copied.parts["names"] is not module.parts["names"]
    assert copied.holder is not module.holder
    assert copied.holder.of[0]["module"] is copied  # or it would run the caller's weights
    assert copied.weight is not module.weight
    assert torch.equal(copied.weight, module.weight)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_copy_after_a_training_step_has_its_weight_norms():
    module = nn.utils.weight_norm(nn.Linear(3, 3))
    x = torch.ones(1, 3)
    want = module(x)  # leaves a weight that is no leaf
    copied = copy_module(module)
    assert torch.equal(copied(x), want)
    want.sum().backward()
    assert module.weight_g.grad is not None


def test_a_copy_that_fails_for_another_reason_says_so():
    class Never(nn.Module):
        def __deepcopy__(self, memo):
            raise RuntimeError("this one is never copied")

    with pytest.raises(RuntimeError, match="never copied"):
        copy_module(Never())
