"""Parity data has rows of conditions at their edges, where the module gives numbers there."""

import numpy as np
import pytest
import torch
from specs import spec_of

from revstep import Condition
from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
from revstep.engine.errors import ParityError
from revstep.export.parity.check import check_parity
from revstep.export.parity.edge_rows import edge_rows, usable
from revstep.export.parity.vectors import make_parity


def spec(*conditions):
    return spec_of(shape=(3,), conditions=conditions)


PROMPT = Condition(name="prompt", shape=(2, 3), null=0.5)
MASK = Condition(name="mask", shape=(4,), dtype="int64", classes=2, null=1)
LABEL = Condition(name="label", dtype="int64", classes=7)
LENGTH = Condition(name="length", dtype="int64")


def test_every_condition_is_at_its_edges_beside_ordinary_others():
    rows = edge_rows(spec(PROMPT, MASK, LABEL))
    prompt, mask, label = (rows[f"cond.{name}"] for name in ("prompt", "mask", "label"))
    assert rows["x"].shape == (len(mask), 3)
    assert (prompt[0] == 0.5).all()  # all nulls together, as an empty prompt has them
    assert (mask[0] == 1).all()
    null, off, on = (
        (p.reshape(len(p), -1) == v).all(1) for p, v in ((prompt, 0.5), (mask, 0), (mask, 1))
    )
    assert null.any()
    assert (off & ~null).any()
    assert (on & ~null).any()
    assert (prompt == 0).all(axis=(1, 2)).any()
    ordinary = prompt[-1]  # the last row changes the label
    assert np.isclose(prompt, 5 * ordinary).all(axis=(1, 2)).any()
    assert set(label) >= {0, 6}
    assert mask.dtype == label.dtype == np.int64


def test_there_are_no_more_than_sixteen_rows():
    many = [Condition(name=f"c{n}", shape=(2,), null=1.0) for n in range(9)]
    assert len(edge_rows(spec(*many))["x"]) == 16


@pytest.mark.parametrize("fields", [{"dtype": "bool"}, {"dtype": "int32", "classes": 2}])
def test_masks_of_a_padding_at_the_end_are_tried_in_both_senses(fields):
    mask = edge_rows(spec(Condition(name="mask", shape=(5,), **fields)))["cond.mask"]
    assert [1, 1, 1, 0, 0] in mask.astype(int).tolist()
    assert [0, 0, 0, 1, 1] in mask.astype(int).tolist()


def test_without_conditions_there_are_none():
    assert edge_rows(spec()) == {}
    assert usable({}, lambda rows: rows["x"]) == {}


def test_whole_numbers_without_classes_are_tried_at_zero_only():
    assert edge_rows(spec(LENGTH))["cond.length"].tolist() == [0]


def test_no_edge_is_tried_twice():
    label = Condition(name="label", dtype="int64", classes=11, null=10)
    assert edge_rows(spec(label))["cond.label"].tolist() == [10, 0]
    mask = Condition(name="mask", shape=(2,), dtype="bool", null=False)
    edges = [[False, False], [True, True], [True, False], [False, True]]
    assert edge_rows(spec(mask))["cond.mask"].tolist() == edges
    zero = Condition(name="prompt", null=0.0)
    assert len(edge_rows(spec(zero))["x"]) == 2


def test_rows_on_which_the_module_fails_are_left_out():
    rows = {"x": np.zeros((3, 2), np.float32), "cond.c": np.arange(3.0, dtype=np.float32)}

    def run(one):
        if one["cond.c"][0] == 0:
            raise ValueError("no length of 0")
        return np.full((1, 2), np.log(2 - one["cond.c"][0]), np.float32)

    with np.errstate(divide="ignore"):
        found = usable(rows, run)
    assert found["edge.cond.c"].tolist() == [1.0]
    assert found["edge.out"].tolist() == [[0.0, 0.0]]
    assert found["edge.x"].shape == (1, 2)


class Masked(torch.nn.Module):
    """A mean over what is on: 0 where all is off, or ``empty``."""

    def __init__(self, empty=0.0):
        super().__init__()
        self.empty = empty

    def forward(self, x, t, mask):
        count = mask.sum(-1, keepdim=True)
        share = torch.where(count > 0, mask / count.clamp_min(1), self.empty)
        return x * share.sum(-1, keepdim=True) + 1e-3 * t[:, None]


def test_a_network_that_is_wrong_only_where_a_mask_is_all_off_fails_parity():
    one = spec(MASK)
    parity = make_parity(Masked(), one)
    assert check_parity(TorchModuleDenoiser(Masked(), one), parity, "fp32")["edges"]["error"] < 1e-6
    with pytest.raises(ParityError, match=r"condition at an edge.*all off"):
        check_parity(TorchModuleDenoiser(Masked(0.25), one), parity, "fp32")


def test_a_module_that_gives_nan_where_a_mask_is_all_off_is_compared_elsewhere():
    parity = make_parity(Masked(torch.nan), spec(MASK))
    assert (parity["edge.cond.mask"] == 1).any(axis=1).all()
    assert np.isfinite(parity["edge.out"]).all()


def test_what_rounding_leaves_of_nothing_is_not_compared_with_itself():
    class Gated(torch.nn.Module):
        def __init__(self, rest):
            super().__init__()
            self.rest = rest

        def forward(self, x, t, mask):
            return x * torch.where(mask.any(-1, keepdim=True), 1.0, self.rest)

    one = spec(MASK)
    parity = make_parity(Gated(1e-8), one)
    assert check_parity(TorchModuleDenoiser(Gated(-1e-8), one), parity, "fp32")
    with pytest.raises(ParityError, match="condition at an edge"):
        check_parity(TorchModuleDenoiser(Gated(1e-3), one), parity, "fp32")
