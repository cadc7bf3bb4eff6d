"""From times to the GPU suite's figures: directions, units and targets, with made-up clocks."""

import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from suites.gpu import chain, kernel, loop, runs  # noqa: E402


@pytest.fixture
def rows_by_name(run, rows_of):
    return lambda: {row["name"]: row for row in rows_of(run)}


def made_up(*seconds):
    """A clock that runs every task once, then returns what each took."""
    rounds = iter(seconds)

    def times(tasks, *arguments, **options):
        for task in tasks:
            task()
        return [[value] * 3 for value in next(rounds)]

    return times


def test_the_step_is_judged_by_its_share_of_the_copys_bandwidth(run, monkeypatch, rows_by_name):
    for megabytes, noise, seconds in ((1, True, 2e-3), (64, True, 1.2e-3), (64, False, 1.0e-3)):
        monkeypatch.setattr(run, "call_times", made_up((seconds, 0.96e-3)))
        name = f"{megabytes} {noise}"
        kernel._share_of_copy(run, name, megabytes, "float16", noise, {})
    rows = rows_by_name()
    found = [(round(row["value"], 6), row["target"], row["met"]) for row in rows.values()]
    assert found == [(0.48, None, None), (0.8, 0.85, False), (0.96, 0.95, True)]
    row = rows["1 True"]
    assert row["parameters"]["bytes"] == 262_144 * 12  # 1 MiB of float32 state, fp16 network
    assert row["figures"]["step_GB_per_s"] == pytest.approx(262_144 * 12 / 2e-3 / 1e9)


def test_time_outside_the_network_is_what_further_steps_take(run, monkeypatch, rows_by_name):
    few, many = 1e-3, 1e-3 + 450 * 4e-6
    monkeypatch.setattr(run, "run_times", made_up((few, many, few, many, few, few + 0.1)))
    loop._outside(run, "x", 1, (4,))
    rows = rows_by_name()
    further = rows["x, unrolled graph, each further step"]
    assert (further["value"], further["met"]) == (pytest.approx(4.0), True)
    whole = rows["x, unrolled graph, per step of a whole run of 50"]
    assert (whole["value"], whole["met"]) == (pytest.approx(20.0), False)
    assert rows["x, step graph, each further step"]["target"] is None


def test_more_steps_in_no_more_time_are_refused(run, monkeypatch):
    monkeypatch.setattr(run, "run_times", made_up((1e-3,) * 6))
    with pytest.raises(ValueError, match="took no longer"):
        loop._outside(run, "x", 1, (4,))


def test_the_chain_is_compared_in_times_as_fast(run, monkeypatch, rows_by_name):
    monkeypatch.setattr(run, "call_times", made_up((1e-5, 5e-5, 2e-5), (2e-4, 8e-4, 4e-4)))
    monkeypatch.setattr(torch, "compile", lambda f, **options: f)
    chain._against_torch(run, "2 x 40", 2, 40, False)
    rows = rows_by_name()
    assert rows["2 x 40, against eager operators"]["value"] == pytest.approx(5.0)
    compiled = rows["2 x 40, against torch.compile"]
    assert compiled["value"] == pytest.approx(2.0)
    assert compiled["figures"]["peer_called_us"] == pytest.approx(4e-4 / chain.CALLS * 1e6)


def test_a_chain_that_gives_another_result_is_not_timed(run, monkeypatch):
    right = chain.make_chain

    def wrong(buffers, noise):
        made = right(buffers, noise)
        return lambda: (made()[0] + 1e-3, made()[1])

    monkeypatch.setattr(chain, "make_chain", wrong)
    with pytest.raises(ValueError, match=r"differ by 0\.001"):
        chain._against_torch(run, "2 x 40", 2, 40, False)


@pytest.mark.parametrize(("peer_s", "met"), [(0.029, False), (0.031, True)])
def test_a_peer_is_compared_with_the_first_of_revsteps_in_its_precision(
    peer_s, met, run, monkeypatch, rows_by_name
):
    monkeypatch.setattr(run, "run_times", made_up((0.01, peer_s, 0.02, 0.004, 0.006)))
    network = types.SimpleNamespace(name="policy", parameters={})
    contenders = [
        runs.Contender(name, precision, lambda: None, peer)
        for name, precision, peer in (
            ("graph", "fp32", None), ("peer", "fp32", "a loop"), ("eager", "fp32", None),
            ("graph", "fp16", None), ("peer", "fp16", "a loop"),
        )
    ]  # fmt: skip
    runs.report(run, network, 1, contenders)
    rows = rows_by_name()
    assert rows["policy, batch 1, fp32: graph"]["value"] == pytest.approx(10.0)
    against = rows["policy, batch 1, fp32: graph, against peer"]
    assert against["value"] == pytest.approx(peer_s / 0.01)
    assert (against["target"], against["met"], against["peer"]) == (3.0, met, "a loop")
    assert rows["policy, batch 1, fp16: graph, against peer"]["value"] == pytest.approx(1.5)


def test_samples_that_differ_from_the_peers_stop_the_comparison(run, rows_by_name):
    network = types.SimpleNamespace(
        name="policy", parameters={}, spec=types.SimpleNamespace(shape=(3,))
    )
    for factor, fails in ((1.001, False), (1.1, True)):

        def ours(noise, *, steps, factor=factor):
            return np.float32(factor) * noise

        def theirs(noise, *, steps):
            return noise

        if fails:
            with pytest.raises(ValueError, match=r"is 0\.1; allowed 0\.02"):
                runs.check_same_samples(run, network, 2, "fp32", ours, theirs)
        else:
            runs.check_same_samples(run, network, 2, "fp32", ours, theirs)
    (row,) = rows_by_name().values()
    assert row["met"] is False
