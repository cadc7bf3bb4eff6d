"""Conditions to measure with."""

import dataclasses

import numpy as np
from networks import NumpyDenoiser
from specs import spec_of

from revstep.bench.example import example_conditions
from revstep.engine.engine import Engine
from revstep.engine.spec.denoiser import Condition

SPEC = spec_of(
    shape=(3,),
    conditions=(
        Condition(name="label", dtype="int64", null=0, classes=3),
        Condition(name="seen", shape=(2,), null=0.0),
    ),
)


def engine(spec):
    return Engine(NumpyDenoiser(spec, lambda x, t, c: x))


def test_conditions_of_every_dtype_are_valid():
    conditions = (
        Condition(name="tokens", dtype="int32", shape=(2,), limits=(1, 3), null=1),
        Condition(name="padded", dtype="int64", limits=(-(2**63), 9)),
        Condition(name="mask", dtype="bool", shape=(2,)),
        Condition(name="prompt", dtype="bfloat16"),
    )
    one = engine(dataclasses.replace(SPEC, conditions=conditions))
    found = example_conditions(one, 4)
    assert found["tokens"].tolist() == [[2, 2], [3, 3], [2, 2], [3, 3]]
    assert found["padded"].tolist() == [0, 1, 2, 3]
    one.sample(4, steps=1, conditions=found)


def test_they_walk_the_classes_but_the_null_one():
    found = example_conditions(engine(SPEC), 5)
    assert found["label"].tolist() == [1, 2, 1, 2, 1]
    assert found["label"].dtype == np.int64
    assert found["seen"].shape == (5, 2)
