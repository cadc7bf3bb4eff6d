"""What a row says of its times."""

import pytest

from revstep.bench.measure.summary import LookedInto, cost_of, split_of, summary_of
from revstep.engine.runtime.watch import Timing


def looked_into(wall_ms, network_ms, sampler_us, host_us=0):
    timing = Timing(
        [int(ms * 1e6) for ms in network_ms],
        [int(us * 1e3) for us in sampler_us],
        [int(host_us * 1e3)] * len(network_ms),
    )
    return LookedInto(wall_ms / 1e3, timing)


def test_a_summary_of_runs():
    times = [0.010] * 30 + [0.012] * 30
    found = summary_of(times, network_calls=20, batch=4)
    assert found["runs"] == 60
    assert found["step_s"] == pytest.approx(found["median_s"] / 20)
    assert found["samples_per_s"] == pytest.approx(4 / 0.011)
    assert set(found["percentiles"]) == {"p50", "p90"}
    assert found["highest"]["percent"] == 90
    assert found["more_runs"] == {"p99": 528 - 60, "p99.9": 5296 - 60}
    assert found["spread"] == pytest.approx(0.002 / 0.011)


def test_too_few_runs_have_no_percentile_and_say_so():
    found = summary_of([0.01] * 7, 1, 1)
    assert found["percentiles"] == {}
    assert found["highest"] is None
    assert found["noise"] is None
    assert found["more_runs"]["p50"] == 1


def test_on_a_cpu_the_parts_of_a_step_add_up_in_each_run():
    runs = [looked_into(10.0, [4.0, 4.0], [50, 150]), looked_into(12.0, [5.0, 5.0], [100, 100])]
    found = split_of(runs, step_s=99.0, on_gpu=False)
    assert found["network_s"] == pytest.approx(4.5e-3)
    assert found["sampler_s"] == pytest.approx(100e-6)
    assert found["gap_s"] == pytest.approx(0.9e-3)  # 5.0 - 4.1 and 6.0 - 5.1
    assert found["launch_s"] == 0.0


def test_what_looking_into_a_short_run_takes_is_no_gap():
    found = split_of([looked_into(1.0, [0.1, 0.1], [10, 10])], step_s=0.13e-3, on_gpu=False)
    assert found["gap_s"] == pytest.approx(20e-6)


def test_on_a_gpu_the_gap_is_that_of_the_runs_that_count():
    runs = [looked_into(10.0, [1.0, 1.0], [20, 20], host_us=300)]
    found = split_of(runs, step_s=1.1e-3, on_gpu=True)
    assert found["gap_s"] == pytest.approx(80e-6)
    assert found["launch_s"] == pytest.approx(300e-6)


def test_single_steps_have_percentiles_of_their_own():
    runs = [looked_into(30.0, [1.0] * 7 + [9.0], [0] * 8)]
    assert split_of(runs, 1e-3, on_gpu=False)["steps"]["p50"]["value"] == pytest.approx(1e-3)


def test_cost_is_that_of_a_machine_that_does_nothing_else():
    summary = {"samples_per_s": 1000.0}
    assert cost_of(summary, 3.6)["per_thousand_samples"] == pytest.approx(0.001)
    assert cost_of(summary, None) is None
