"""Recorded estimates of chosen steps."""

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon

from revstep import DenoiserSpec, Engine
from revstep.schedules import VPSchedule

SPEC = DenoiserSpec(shape=(2, 3), schedule=VPSchedule(), prediction="epsilon", batch=(1, 4))


def engine():
    return Engine(NumpyDenoiser(SPEC, gaussian_epsilon(SPEC)))


def previews(n, **options):
    """(steps, n, *shape): what ``on_step`` gets."""
    parts = []
    steps = engine().sample(n, on_step=parts.append, **options).calls
    return np.stack(
        [np.concatenate([p.x0 for p in parts if p.step == k + 1]) for k in range(steps)]
    )


@pytest.mark.parametrize("n", [1, 4, 11])
def test_chosen_steps_are_recorded_as_on_step_gets_them(n):
    options = {"sampler": "ddpm", "steps": 9, "seed": 3}
    want = previews(n, **options)
    samples = engine().sample(n, trace_x0=[-1, 2, 5, 2], **options)
    assert samples.x0_steps == (2, 5, 9)
    assert samples.x0_trace.dtype == np.float32
    np.testing.assert_array_equal(samples.x0_trace, want[[1, 4, 8]])
    whole = engine().sample(n, trace_x0=True, **options)
    assert whole.x0_steps == tuple(range(1, 10))
    np.testing.assert_array_equal(whole.x0_trace, want)


def test_recording_changes_no_bit_and_lets_others_watch():
    plain = engine().sample(5, steps=6, seed=1, sampler="ddpm").x
    seen = []

    def spoil(preview):
        seen.append(preview.step)
        preview.x0.fill(9.0)

    traced = engine().sample(
        5, steps=6, seed=1, sampler="ddpm", trace_x0=np.array([6]), on_step=spoil
    )
    np.testing.assert_array_equal(traced.x, plain)
    assert seen == [*range(1, 7), *range(1, 7)]
    np.testing.assert_allclose(traced.x0_trace[0], plain, atol=1e-6)  # the last step ends at x0


def test_without_it_nothing_is_recorded():
    for nothing in (None, False):
        samples = engine().sample(1, steps=2, seed=0, trace_x0=nothing)
        assert samples.x0_trace is None
        assert samples.x0_steps == ()


def test_a_trace_beyond_a_quarter_of_the_memory_is_refused_before_the_run(monkeypatch):
    from revstep.engine.system import machine

    monkeypatch.setattr(machine, "memory_bytes", lambda: 4 * 24 * 30)
    network = NumpyDenoiser(SPEC, gaussian_epsilon(SPEC))
    e = Engine(network)
    assert e.sample(6, steps=9, seed=0, trace_x0=range(1, 6)).x0_trace.nbytes == 24 * 30
    network.rows.clear()
    with pytest.raises(ValueError, match=r"6 steps and 6 samples takes .* choose fewer steps"):
        e.sample(6, steps=9, seed=0, trace_x0=range(1, 7))
    assert network.rows == []


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ([0], ValueError, "step 0 of a run of 4 steps"),
        ([5], ValueError, "step 5 of a run of 4"),
        ([-5], ValueError, "step -5"),
        ([1.5], TypeError, r"trace_x0 must be a whole number; got float 1\.5"),
        ([True], TypeError, "trace_x0 must be a whole number"),
        (3, TypeError, "a sequence of step numbers"),
        ("all", TypeError, "a sequence of step numbers"),
    ],
)
def test_bad_steps_are_refused_before_the_network_is_called(asked, error, message):
    network = NumpyDenoiser(SPEC, gaussian_epsilon(SPEC))
    with pytest.raises(error, match=message):
        Engine(network).sample(1, steps=4, trace_x0=asked)
    assert network.rows == []
