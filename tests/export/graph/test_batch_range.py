"""Modules that take another way in large batches: found without running them there."""

import dataclasses

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from toys import TABULAR, TabularToy, build

from revstep.engine.errors import ExportError
from revstep.export.graph.batch_range import MAX_ELEMENTS, check_batch

WIDE = dataclasses.replace(TABULAR, batch=(1, 128))
LARGE = dataclasses.replace(TABULAR, shape=(MAX_ELEMENTS // 8,), batch=(1, 64))


class Forked(TabularToy):
    """Another function of (module, x, t, the toy's output) from ``limit`` rows on."""

    def __init__(self, few, many, limit=9):
        super().__init__()
        self.few, self.many, self.limit = few, many, limit
        self.other = nn.Linear(6, 6)
        self.same = nn.Linear(6, 6)
        self.same.load_state_dict(self.other.state_dict())
        self.ran = set()  # rows for which there was arithmetic

    def forward(self, x, t):
        if not isinstance(x, FakeTensor):
            self.ran.add(len(x))
        way = self.few if len(x) < self.limit else self.many
        return way(self, x, t, super().forward(x, t))


FORKS = {
    "operators": (lambda m, x, t, y: y, lambda m, x, t, y: 2 * y),
    "numbers": (lambda m, x, t, y: 2 * y, lambda m, x, t, y: 3 * y),
    "weights": (lambda m, x, t, y: m.net[2](torch.tanh(m.net[0](nn.functional.pad(x, (0, 8))))),
                lambda m, x, t, y: m.other(x)),
    "one weight": (lambda m, x, t, y: y * m.other.weight[0], lambda m, x, t, y: y * m.other.bias),
    "constants": (lambda m, x, t, y: y * torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0, 1.0]),
                  lambda m, x, t, y: y * torch.tensor([1.0, 3.0, 1.0, 1.0, 1.0, 1.0])),
    "wires": (lambda m, x, t, y: (x + y) - x.tanh(), lambda m, x, t, y: (x + y) - y.tanh()),
    "wires of one kind": (lambda m, x, t, y: m.other(x), lambda m, x, t, y: m.other(y)),
}  # fmt: skip


@pytest.mark.parametrize("limit", [9, 65, 128])
@pytest.mark.parametrize("fork", FORKS)
def test_another_way_in_large_batches_is_refused(fork, limit):
    with pytest.raises(ExportError, match=r"output at batch 128 than at batch 2 \(by"):
        check_batch(Forked(*FORKS[fork], limit).eval(), WIDE, 128)


@pytest.mark.parametrize("kind", ["image", "policy", "tabular"])
def test_a_module_without_branches_is_not_run_at_that_batch(kind):
    module, spec, _ = build(kind)
    ran = []
    module.register_forward_pre_hook(lambda _, args: ran.append(isinstance(args[0], FakeTensor)))
    check_batch(module, spec, 64)
    assert ran == [True, True]  # twice, on tensors without values
    check_batch(Forked(*FORKS["operators"], 65), WIDE, 64)


def test_what_changes_no_value_is_taken_without_a_run():
    module = Forked(lambda m, x, t, y: y.t().t(), lambda m, x, t, y: y.t().contiguous().t())
    check_batch(module, WIDE, 128)
    assert module.ran == set()


def test_another_way_to_the_same_rows_is_taken_where_they_can_be_compared():
    module = Forked(lambda m, x, t, y: m.other(y), lambda m, x, t, y: m.same(y))
    check_batch(module, WIDE, 128)
    assert module.ran == {2, 128}


class Wide(nn.Module):
    def forward(self, x, t):
        assert len(x) < 9 or isinstance(x, FakeTensor), "too large to run"
        return 2 * x if len(x) > 8 else x + x


def test_samples_too_large_to_compare_are_refused_without_a_run():
    with pytest.raises(ExportError, match=r"another way at batch 64 .*batch range than batch=\(1"):
        check_batch(Wide(), LARGE, 64)
    check_batch(Wide(), LARGE, 8)


def test_what_a_module_keeps_of_a_run_is_its_own():
    class Keeping(TabularToy):
        def forward(self, x, t):
            if not hasattr(self, "ones"):
                self.ones = torch.ones(6)
            return super().forward(x, t) * self.ones

    module = Keeping()
    check_batch(module, WIDE, 128)
    assert not hasattr(module, "ones")
    module.eval()(torch.zeros(2, 6), torch.zeros(2)).sum().item()


def test_a_module_that_needs_values_is_left_to_the_exporter():
    class Reads(TabularToy):
        def forward(self, x, t):
            return super().forward(x, t) if float(x.sum()) > -1e30 else x

    check_batch(Reads(), WIDE, 128)
