"""The zoo: what export takes is the module, in every precision; what it refuses it refuses early.

The oracle is the module itself in float64 on the CPU (tests/support/zoo/judge.py). Half of the
animals, those that are nearest to another one, are judged with the slow tests.
"""

import dataclasses
import functools
import json
import re
from pathlib import Path

import pytest
from zoo import PRECISIONS, ZOO
from zoo.judge import judge
from zoo.page import page

ROOT = Path(__file__).parents[2]
SLOW = {
    "3-D state, Conv2d", "an int mask turned into -1e4", "float64 phases inside",
    "a condition named 'out'", "a dict of one tensor", "a prompt in float16", "a float64 module",
    "parametrised spectral norm", "spectral norm by hooks", "lazy layers", "tied weights",
    "bfloat16 weights, cast in forward", "BatchNorm in eval", "a patched forward",
    "a counter of calls", "in-place work inside", "control flow on constants",
    "a choice by torch.where", "no_grad and detach", "checkpointing",
    "autocast switched off inside", "a table of whole times", "one number a sample",
    "1-D state of an odd size", "2-D state, Conv1d", "InstanceNorm", "a U-Net at an odd size",
    "scaled_dot_product_attention", "patches with modulated norms", "a recurrent layer",
    "learned variance", "views and permutations", "a flow over [0, 1]", "a class label",
    "token ids, int64", "an int mask", "an int mask turned into -inf",
    "a float mask turned into -1e4", "a bool mask over written-out attention",
    "one number as (B, 1)", "a prompt in bfloat16", "a condition named 'linear'",
    "a condition named 'cos'", "a condition named 'val_0'", "a condition named 'add'",
    "a tuple of one tensor", "half inside", "a bool mask",
}  # fmt: skip


@functools.cache
def outcomes(name):
    """Judged once for all precisions: one export."""
    return judge(ZOO[name])


def cases():
    for name in ZOO:
        marks = [pytest.mark.slow] if name in SLOW else []
        for precision in PRECISIONS:
            yield pytest.param(name, precision, marks=marks, id=f"{name}-{precision}")


@pytest.mark.parametrize(("name", "precision"), list(cases()))
def test_an_animal_is_right_or_refused(name, precision):
    animal, outcome = ZOO[name], outcomes(name)[precision]
    if (words := animal.refusal(precision)) is not None:
        assert outcome.refusal is not None, f"exported, with error {outcome.error:g}"
        assert re.search(words, outcome.refusal, re.DOTALL), outcome.refusal
    else:
        assert outcome.refusal is None, outcome.refusal
        assert outcome.error < animal.bound(precision)


def test_the_named_ones_exist():
    assert set(ZOO) >= SLOW


def test_a_wrong_graph_is_seen():
    """The judge itself: a module that differs from what was exported has a large error."""
    one, other = ZOO["linear layers"].make(), ZOO["a patched forward"].make()
    made = iter([one, other])
    animal = dataclasses.replace(ZOO["linear layers"], build=lambda: next(made))
    assert judge(animal, ("fp32",))["fp32"].error > 0.1


def test_the_page_is_that_of_the_committed_run():
    results = json.loads((ROOT / "bench/results/zoo.json").read_text())
    assert set(results["outcomes"]) == set(ZOO), "run PYTHONPATH=tests/support python -m zoo"
    assert (ROOT / "docs/zoo.md").read_text() == page(results)
