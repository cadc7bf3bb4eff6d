"""The zoo: what export takes is the module, in every precision; what it refuses it refuses early.

The oracle is the module itself in float64 on the CPU (tests/support/zoo/judge.py). Half of the
animals, those that differ from another one least, are judged with the slow tests.
"""

import dataclasses
import functools
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

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
HALF = "fp16 and bf16 are casts of the module, not passes over the fp32 graph"
LOST = "the export's own copy loses it"
KIND = "no condition of this dtype"
WORDS = "refused in a library's own words"
NAMES = "the exporter names values after operators"
MANY = "one bare tensor only"
NOT_YET = {
    "fp16": HALF,
    "bf16": HALF,
    "weight norm by hooks": "copy.deepcopy refuses a weight that was computed with gradients",
    "spectral norm by hooks": "copy.deepcopy refuses a weight that was computed with gradients",
    "orthogonal weights": HALF,
    "a float64 table": LOST,
    "a complex buffer": LOST,
    "a quantised tensor": WORDS,
    "fp8 weights": WORDS,
    "autocast inside": WORDS,
    "a stack of two dtypes": "the exporter writes a graph of mixed types",
    "a squeeze that does nothing": "the exporter writes a Squeeze of an axis that isn't 1",
    "an int mask, rows of which are empty": "the graph attends evenly there",
    "a bool mask": KIND,
    "a bool mask, rows of which are empty": KIND,
    "a bool mask over written-out attention": KIND,
    "token ids, int32": KIND,
    "a prompt in float16": KIND,
    "a prompt in bfloat16": KIND,
    "a null prompt, an array": "null values are numbers",
    "nn.TransformerDecoder, causal": "a branch on the values of a constant",
    "a condition named 'view'": NAMES,
    "a condition named 'linear'": NAMES,
    "a condition named 'cos'": NAMES,
    "a condition named 'out'": NAMES,
    "keyword-only inputs": "inputs are given by position",
    "a tuple of one tensor": MANY,
    "a dict of one tensor": MANY,
    "an output object of one tensor": MANY,
    "a dict of several, by name": MANY,
    "a dict of several, unnamed": MANY,
}


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
def test_an_animal_is_right_or_refused(name, precision, request):
    if why := NOT_YET.get(name, NOT_YET.get(precision)):
        request.applymarker(pytest.mark.xfail(reason=why, strict=False))
    animal, outcome = ZOO[name], outcomes(name)[precision]
    if (words := animal.refusal(precision)) is not None:
        assert outcome.refusal is not None, f"exported, with error {outcome.error:g}"
        assert re.search(words, outcome.refusal, re.DOTALL), outcome.refusal
    else:
        assert outcome.refusal is None, outcome.refusal
        assert outcome.error < animal.bound(precision)


def test_the_named_ones_exist():
    assert set(ZOO) >= SLOW
    assert {*ZOO, *PRECISIONS} >= set(NOT_YET)


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
