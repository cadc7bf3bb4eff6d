"""Whether a machine was fit to measure on."""

import pytest

from revstep.bench.measure import disturbance as module
from revstep.bench.measure.disturbance import (
    Reading,
    disturbance,
    from_first_to_last,
    read_counters,
)

QUIET = Reading(wall_s=0.0, own_s=0.0, busy_s=0.0, steal_s=0.0, throttles=3)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)


def after(**fields):
    values = {"wall_s": 10.0, "own_s": 10.0, "busy_s": 10.0, "steal_s": 0.0, "throttles": 3}
    return Reading(**{**values, **fields})


def test_a_process_alone_is_quiet():
    found = disturbance(QUIET, after(), spread=0.02)
    assert found == {"verdict": "quiet", "reasons": [], "others": 0.0, "steal": 0.0}


@pytest.mark.parametrize(
    ("fields", "spread", "verdict", "reason"),
    [
        ({"busy_s": 15.0}, 0.0, "noisy", "other processes kept 25% of the 2 processors busy"),
        ({"steal_s": 1.0}, 0.0, "noisy", "the hypervisor took 5%"),
        ({}, 0.2, "noisy", "spreads over 20%"),
        ({"throttles": 5}, 0.0, "throttled", "throttled 2 times"),
        ({"gpu": (900.0, 1980.0, 0)}, 0.0, "throttled", "the GPU ran at 900 of 1980 MHz"),
        ({"gpu": (1900.0, 1980.0, 0x4)}, 0.0, "throttled", "reasons 0x4"),
    ],
)
def test_what_disturbs_is_said_with_its_reason(fields, spread, verdict, reason):
    found = disturbance(QUIET, after(**fields), spread)
    assert found["verdict"] == verdict
    assert any(reason in text for text in found["reasons"])


@pytest.mark.parametrize("gpu", [(1900.0, 1980.0, 0x1), (345.0, 1980.0, 0x1), (1200.0, 1980.0, 2)])
def test_a_gpu_that_idles_or_has_a_clock_of_the_user_s_is_not_throttled(gpu):
    assert disturbance(QUIET, after(gpu=gpu), 0.0)["verdict"] == "quiet"


def test_a_gpu_that_was_throttled_in_one_of_several_measurements_is_said_to_be():
    clocks = [
        (1900.0, 1980.0, 0x1),
        (900.0, 1980.0, 0x4),
        (1700.0, 1980.0, 0x4),
        (345.0, 1980.0, 1),
    ]
    pairs = [(QUIET, after(gpu=gpu, wall_s=10.0 * n)) for n, gpu in enumerate(clocks, 1)]
    before, last = from_first_to_last(pairs)
    assert (before, last.wall_s) == (QUIET, 40.0)
    (reason,) = disturbance(before, last, 0.0)["reasons"]
    assert reason == "the GPU was throttled to 900 of 1980 MHz (reasons 0x4)"
    assert from_first_to_last([pairs[0], pairs[3]])[1] == pairs[3][1]
    assert from_first_to_last([(QUIET, after())]) == (QUIET, after())


def test_what_the_system_does_not_say_is_none():
    found = disturbance(QUIET, after(busy_s=None, throttles=None), 0.0)
    assert found["others"] is None
    assert found["verdict"] == "quiet"


def test_this_machine_can_be_read_and_its_own_work_is_not_the_others():
    monkey = read_counters()
    total = sum(n * n for n in range(400_000))
    later = read_counters()
    assert total
    assert later.own_s > monkey.own_s
    assert later.busy_s is None or later.busy_s >= monkey.busy_s
