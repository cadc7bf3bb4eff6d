import dataclasses
import time

import numpy as np
import pytest
from networks import NumpyDenoiser
from specs import spec_of

from revstep.bench.latency import example_conditions, measure
from revstep.engine.engine import Engine
from revstep.engine.spec.denoiser import Condition

NETWORK_S = 0.002
SPEC = spec_of(
    shape=(3,),
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


def test_time_in_and_outside_the_network_is_separated(denoiser):
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
    seen = []
    measure(Engine(denoiser), 1, steps=1, runs=50, seconds=1e-6, progress=lambda *a: seen.append(a))
    assert [done for done, _ in seen] == [1, 2, 3, 3]
    assert all(done <= total for done, total in seen)
    assert seen[-1] == (3, 3)  # the runs that were made, not the max that was allowed


def test_progress_never_passes_the_max_of_runs(denoiser):
    seen = []
    measure(Engine(denoiser), 1, steps=1, runs=5, seconds=60.0, progress=lambda *a: seen.append(a))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (5, 5)]


def test_the_parts_add_up_and_are_the_median_runs():
    pauses = iter([0.0, 0.001, 0.03, 0.008, 0.02])  # of the warm-up, then of four runs

    def network(x, t, conditions):
        time.sleep(next(pauses))
        return np.zeros_like(x)

    row = measure(Engine(NumpyDenoiser(SPEC, network)), 1, steps=1, runs=4)
    assert row.step_ms == pytest.approx(row.network_ms + row.outside_us / 1e3)
    assert row.p50_ms == row.step_ms
    assert 8.0 <= row.network_ms < 20.0  # the second of four, by nearest rank
    assert row.p90_ms == row.p99_ms >= 30.0


@pytest.mark.parametrize(
    ("runs", "shown"), [(9, ["1", "-", "-"]), (10, ["1", "2", "-"]), (100, ["1", "2", "3"])]
)
def test_percentiles_that_so_few_runs_cannot_resolve_are_dashes(runs, shown):
    pytest.importorskip("rich")
    from revstep.bench.latency import Latency
    from revstep.commands.latency_table import latency_table

    row = Latency(
        *(1, "ddim", 2, 1.0, runs),
        **{"p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0},
        **{"step_ms": 0.5, "network_ms": 0.4, "outside_us": 100.0, "samples_per_s": 1e3},
    )
    table = latency_table([row])
    cells = [next(iter(column.cells)).removesuffix(".0") for column in table.columns[2:5]]
    assert cells == shown


def test_guidance_doubles_the_networks_rows(denoiser):
    measure(Engine(denoiser), 3, steps=1, runs=3, guidance=2.0)
    assert set(denoiser.rows) == {6}


@pytest.mark.parametrize("wrong", [{"runs": 2}, {"seconds": 0.0}])
def test_too_little_to_measure_is_refused(denoiser, wrong):
    with pytest.raises(ValueError, match="must be at least"):
        measure(Engine(denoiser), 1, **wrong)


def test_example_conditions_of_every_dtype_are_valid():
    conditions = (
        Condition(name="tokens", dtype="int32", shape=(2,), limits=(1, 3), null=1),
        Condition(name="padded", dtype="int64", limits=(-(2**63), 9)),
        Condition(name="mask", dtype="bool", shape=(2,)),
        Condition(name="prompt", dtype="bfloat16"),
    )
    spec = dataclasses.replace(SPEC, conditions=conditions)
    engine = Engine(NumpyDenoiser(spec, lambda x, t, c: x))
    found = example_conditions(engine, 4)
    assert found["tokens"].tolist() == [[2, 2], [3, 3], [2, 2], [3, 3]]
    assert found["padded"].tolist() == [0, 1, 2, 3]
    engine.sample(4, steps=1, conditions=found)


def test_example_conditions_walk_the_classes_but_the_null_one(denoiser):
    found = example_conditions(Engine(denoiser), 5)
    assert found["label"].tolist() == [1, 2, 1, 2, 1]
    assert found["label"].dtype == np.int64
    assert found["seen"].shape == (5, 2)
