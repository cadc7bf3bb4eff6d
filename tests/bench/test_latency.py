import time

import numpy as np
import pytest
from networks import NumpyDenoiser

from revstep.bench.latency import example_conditions, measure
from revstep.engine.engine import Engine
from revstep.engine.schedule import VPSchedule
from revstep.engine.spec import Condition, DenoiserSpec

NETWORK_S = 0.002
SPEC = DenoiserSpec(
    shape=(3,),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(
        Condition(name="label", dtype="int64", null=0, classes=3),
        Condition(name="seen", shape=(2,), null=0.0),
    ),
)


@pytest.fixture
def denoiser():
    def network(x, t, conditions):
        time.sleep(NETWORK_S)
        return np.zeros_like(x)

    return NumpyDenoiser(SPEC, network)


def test_time_in_and_outside_the_network_is_told_apart(denoiser):
    row = measure(Engine(denoiser), 2, steps=4, runs=5)
    assert row.network_ms >= NETWORK_S * 1e3
    assert row.step_ms >= row.network_ms
    # A sleep is network time; the step of 6 numbers around it takes far less than the sleep.
    assert 0 < row.outside_us < NETWORK_S * 1e6
    assert row.p50_ms == pytest.approx(4 * row.step_ms)
    assert row.samples_per_s == pytest.approx(2 / (row.p50_ms * 1e-3))


def test_one_run_warms_up_and_is_not_counted(denoiser):
    row = measure(Engine(denoiser), 1, steps=2, runs=6)
    assert row.runs == 6
    assert len(denoiser.rows) == (6 + 1) * 2


def test_the_time_limit_ends_it_after_three_runs(denoiser):
    assert measure(Engine(denoiser), 1, steps=2, runs=1000, seconds=1e-6).runs == 3


def test_progress_ends_full(denoiser):
    told = []
    measure(Engine(denoiser), 1, steps=1, runs=50, seconds=1e-6, progress=lambda *a: told.append(a))
    assert told[0] == (1, 50)
    assert told[-1] == (50, 50)


def test_guidance_doubles_the_networks_rows(denoiser):
    measure(Engine(denoiser), 3, steps=1, runs=3, guidance=2.0)
    assert set(denoiser.rows) == {6}


@pytest.mark.parametrize("wrong", [{"runs": 2}, {"seconds": 0.0}])
def test_too_little_to_measure_is_refused(denoiser, wrong):
    with pytest.raises(ValueError, match="must be at least"):
        measure(Engine(denoiser), 1, **wrong)


def test_example_conditions_walk_the_classes_but_the_null_one(denoiser):
    found = example_conditions(Engine(denoiser), 5)
    assert found["label"].tolist() == [1, 2, 1, 2, 1]
    assert found["label"].dtype == np.int64
    assert found["seen"].shape == (5, 2)
