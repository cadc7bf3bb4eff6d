"""The service's suite: percentiles, load, simulation; and its page is the rows'."""

import json
import math
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from revstep.bench.rows import read_rows
from revstep.bench.stats.percentiles import all_supported, interval_ranks, supported
from revstep.errors import QueueFullError
from suites.cpu.table import last_rows
from suites.service import table
from suites.service.asks import FEWEST, MOST, Ask, mixed_asks
from suites.service.load import closed_loop
from suites.service.plot import ROWS
from suites.service.sides import ALONE, IN_FLIGHT, MAX_QUEUE, SIDES, SLOTS, WHOLE
from suites.service.simulation import (
    POLICIES,
    in_flight,
    one_at_a_time,
    saturation,
    whole_generations,
)
from suites.service.targets import TARGETS, outcomes, summary

ROOT = Path(__file__).resolve().parents[2]
ASKS = [Ask("ddim", 10, k, {}) for k in range(64)]


@pytest.fixture(scope="module")
def engine():
    from networks import NumpyDenoiser

    from revstep import DenoiserSpec, Engine
    from revstep.schedules import VPSchedule

    spec = DenoiserSpec(shape=(3,), schedule=VPSchedule(), prediction="epsilon", batch=(1, 16))
    return Engine(NumpyDenoiser(spec, lambda x, *_: 0.5 * x))


# Percentiles.


@pytest.mark.parametrize(("percent", "least"), [(50, 8), (90, 51), (99, 528)])
def test_a_percentile_takes_as_many_samples_as_bracket_it(percent, least):
    assert interval_ranks(least - 1, percent) is None
    low, high = interval_ranks(least, percent)
    assert 1 <= low < high <= least
    assert interval_ranks(0, percent) is None


def test_the_interval_covers_the_true_percentile_as_often_as_it_says():
    draw = np.random.default_rng(5)
    true = -math.log(0.1)  # the 90th percentile of the exponential distribution
    hits = 0
    for _ in range(2000):
        found = supported(draw.standard_exponential(80).tolist(), 90)
        hits += found["low"] <= true <= found["high"]
    assert hits / 2000 >= 0.985


def test_what_was_never_answered_stays_among_the_latencies():
    found = supported([*[1.0] * 40, *[math.inf] * 60], 50)
    assert found["value"] is None  # JSON has no infinity
    assert found["low"] in (1.0, None)
    assert set(all_supported([1.0] * 51)) == {"p50", "p90"}


# Requests and a backlog.


def test_requests_are_the_same_for_a_seed(engine):
    asks = mixed_asks(engine.spec, 400, 3)
    assert asks == mixed_asks(engine.spec, 400, 3)
    assert {min(a.steps for a in asks), max(a.steps for a in asks)} == {FEWEST, MOST}


def answer_at_once(ask):
    future = Future()
    future.set_result(ask)
    return future


def test_the_closed_loop_counts_replies_between_its_ends_and_raises_what_fails():
    seconds, count = closed_loop(answer_at_once, ASKS, 16, uncounted=16)
    assert count == 64 - 16 - 16
    assert seconds >= 0.0

    def fails(ask):
        future = Future()
        future.set_exception(ValueError("no"))
        return future

    with pytest.raises(ValueError, match="no"):
        closed_loop(fails, ASKS, 16, uncounted=16)


@pytest.mark.parametrize("name", list(SIDES))
def test_every_side_answers_what_the_engine_draws_alone(engine, name):
    side = SIDES[name](engine)
    try:
        asks = mixed_asks(engine.spec, 40, 1)
        found = [side.submit(ask) for ask in asks]
        for ask, future in zip(asks, found, strict=True):
            alone = engine.sample(1, **ask.arguments()).x
            np.testing.assert_allclose(future.result(30).x, alone, rtol=1e-5, atol=1e-6)
    finally:
        side.close()


@pytest.mark.parametrize("name", [WHOLE, ALONE])
def test_a_full_queue_refuses(engine, name):
    side = SIDES[name](engine)
    first = side.submit(Ask("ddim", 10, 0, {}))
    first.result(30)
    held, blocked = threading.Event(), threading.Event()

    def hold(_):
        blocked.set()
        held.wait(30)

    waiting = side.submit(Ask("ddim", 500, 0, {}))
    waiting.add_done_callback(hold)
    try:
        assert blocked.wait(30)
        taken = [side.submit(ASKS[0]) for _ in range(MAX_QUEUE)]
        with pytest.raises(QueueFullError):
            side.submit(ASKS[0])
    finally:
        held.set()
        side.close()
    assert all(future.done() for future in taken)


# Simulation.

COSTS = {1: 1.0, 2: 1.0, 4: 2.0}


def test_in_flight_admits_between_steps_and_pays_for_the_bucket():
    # alone for a step, then two, then one; the third comes when there is no slot
    assert in_flight([0.0, 0.5, 0.6], [3, 2, 1], COSTS, slots=2) == pytest.approx([3.0, 2.5, 3.4])
    assert in_flight([0.0, 0.0, 0.0], [1, 1, 2], COSTS, slots=4) == pytest.approx([2.0, 2.0, 3.0])


def test_whole_generations_wait_for_nobody_and_answer_with_the_longest():
    due, steps = [0.0, 0.5, 0.6, 0.7], [2, 1, 3, 1]
    assert whole_generations(due, steps, COSTS, slots=2) == pytest.approx([2.0, 4.5, 4.4, 5.3])
    assert one_at_a_time(due, steps, COSTS) == pytest.approx([2.0, 2.5, 5.4, 6.3])


@pytest.mark.parametrize("policy", list(POLICIES))
def test_a_full_queue_refuses_in_the_simulation_too(policy):
    found = POLICIES[policy]([0.0] + [0.5] * 400, [10] * 401, dict.fromkeys((1, 16), 1.0), SLOTS)
    assert sum(map(math.isinf, found)) == 400 - MAX_QUEUE


def test_whole_generations_saturate_at_the_mean_over_the_mean_longest():
    steps = np.random.default_rng(0).integers(FEWEST, MOST + 1, 1 << 14).tolist()
    costs = {1: 1.0, 16: 4.0}
    rates = {name: saturation(name, steps, costs) for name in POLICIES}
    assert rates[WHOLE] / rates[IN_FLIGHT] == pytest.approx(0.63, abs=0.01)
    assert rates[IN_FLIGHT] / rates[ALONE] == pytest.approx(4.0)


# Rows and pages.


def _load_row(load=0.8, ours=0.1, theirs=0.5, network="policy"):
    def values(seconds):
        return {"p50": {"value": seconds / 2, "low": 0.0, "high": 1.0},
                "p99": {"value": seconds, "low": 0.0, "high": 1.0}}  # fmt: skip

    seconds = {
        IN_FLIGHT: values(ours),
        WHOLE: values(theirs),
        ALONE: {p: {"value": None} for p in ("p50", "p99")},
    }
    sides = {
        name: {"seconds": v, "refused": 3 if name == ALONE else 0, "unsent": 0, "failed": 0}
        for name, v in seconds.items()
    }
    return {"part": "load", "name": f"{network}, {load:.0%}", "network": network, "load": load,
            "quick": False, "sides": sides, "simulated": seconds}  # fmt: skip


def test_a_target_is_judged_by_its_rows_figure_beside_what_is_possible():
    (found,) = (o for o in outcomes([_load_row()]) if "p99" in o.target.what)
    assert (found.value, found.possible, found.met) == (0.2, 0.2, True)
    (found,) = (o for o in outcomes([_load_row(ours=0.3)]) if "p99" in o.target.what)
    assert found.met is False
    assert "NOT met" in summary([_load_row(ours=0.3)])
    assert "**no**" in table.targets_table([_load_row(ours=0.3)])


def test_every_target_finds_a_row_of_the_last_measurement():
    if not (ROOT / ROWS).exists():
        pytest.skip("nothing was measured")
    assert len(outcomes(last_rows(read_rows(ROOT / ROWS)))) == len(TARGETS)


def test_the_sweep_shows_what_was_not_answered():
    text = table.sweep_table([_load_row()])
    assert (
        "| policy, 80% | 50 ms | - | 100 ms | 250 ms | - | 500 ms | no reply | - | no reply |"
        in text
    )
    assert "0, 0, 0; 0, 0, 0; 3, 0, 0" in text


def test_a_committed_row_is_no_trial():
    if (ROOT / ROWS).exists():
        lines = (ROOT / ROWS).read_text(encoding="utf-8").splitlines()
        assert not any(json.loads(line)["quick"] for line in lines)


def test_the_plot_is_a_picture_of_every_network(tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    from suites.service.plot import draw, highest, points

    rows = [_load_row(load, network=name) for load in (0.4, 0.8) for name in ("policy", "unet")]
    assert highest(rows) == "p99"
    assert points(rows, ALONE, "p50") == []
    draw(rows, tmp_path / "images" / "service.png")
    with image.open(tmp_path / "images" / "service.png") as picture:
        assert picture.width > 500
