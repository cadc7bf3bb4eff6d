"""Points, the end of a training step, and what a network is fed."""

import dataclasses

import numpy as np
import pytest
from specs import spec_of

from revstep import DenoiserSpec, TimeInput
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import lambda_point, point, training_end
from revstep.engine.program.steps import steps_over
from revstep.engine.program.table import build_program
from revstep.kernels import columns as col
from revstep.schedules import FlowSchedule, VESchedule

VP = spec_of(shape=(2,))
VE = dataclasses.replace(VP, schedule=VESchedule(steps=40, sigma_min=0.02, sigma_max=20.0))
EDM = DenoiserSpec.edm((2,))
FLOW = DenoiserSpec(
    shape=(2,),
    schedule=FlowSchedule(steps=40),
    prediction="flow",
    time=TimeInput(kind="unit", fractions=True),
)


@pytest.mark.parametrize("step", [1.0, 2.5])
def test_a_training_step_is_counted_in_training_indices(step):
    vp = dataclasses.replace(VP, training_step=step)
    assert training_end(vp, 600.0) == tuple(vp.schedule.alpha_sigma(600.0 - step))
    ve = dataclasses.replace(VE, training_step=step)
    shrink = (20.0 / 0.02) ** (-step / 39)  # the geometric ratio of so many indices
    assert training_end(ve, 3.0) == (1.0, pytest.approx(3.0 * shrink, rel=1e-12))
    flow = dataclasses.replace(FLOW, training_step=step)
    t = 0.7 - step / 40
    assert training_end(flow, 0.7) == (pytest.approx(1 - t), pytest.approx(t))
    edm = dataclasses.replace(EDM, training_step=step)
    bent = 2.0 ** (1 / 7) - step / 999 * (80.0 ** (1 / 7) - 0.002 ** (1 / 7))
    assert training_end(edm, 2.0) == (1.0, pytest.approx(bent**7, rel=1e-12))


@pytest.mark.parametrize("spec", [VP, VE, EDM, FLOW])
def test_the_first_training_step_ends_clean(spec):
    assert training_end(spec, float(spec.schedule.from_index(0))) == (1.0, 0.0)
    far = dataclasses.replace(spec, training_step=3.0)
    assert training_end(far, float(spec.schedule.from_index(1))) == (1.0, 0.0)


@pytest.mark.parametrize("spec", [VP, VE, FLOW])
def test_ddpm_over_the_training_steps_returns_what_a_mean_network_predicts(spec):
    """The design's exact row x' = m + s z, on every kind of schedule."""
    schedule = dataclasses.replace(spec.schedule, steps=40)
    mean = dataclasses.replace(spec, schedule=schedule, prediction="mean")
    rows = build_program(mean, "ddpm", 40).rows[:-1]
    np.testing.assert_allclose(rows[:, col.C_M], 1.0, rtol=1e-9)
    np.testing.assert_allclose(rows[:, [col.C_X, col.C_0]], 0.0, atol=1e-12)


@pytest.mark.parametrize("spec", [VP, VE, EDM, FLOW])
def test_a_point_is_found_by_its_log_snr(spec):
    for lam in (-1.5, 0.0, 0.7):
        at = lambda_point(spec, lam)
        assert at.lam == pytest.approx(lam, abs=1e-10)
        assert np.log(at.alpha / at.sigma) == pytest.approx(lam, abs=1e-10)
        assert spec.schedule.from_index(at.index) == pytest.approx(at.t, rel=1e-10)


@pytest.mark.parametrize(
    ("kind", "spec", "want"),
    [
        ("index", VP, 600.4),
        ("unit", VP, 600.4 / 999),
        ("thousand", VP, 1000 * 600.4 / 999),
        ("index", FLOW, 40 * 0.6 - 1),
        ("unit", FLOW, 0.6),
        ("thousand", FLOW, 600.0),
        ("sigma", EDM, 3.0),
        ("log_sigma", EDM, np.log(3.0) / 4),
        ("log_snr", EDM, -2 * np.log(3.0)),
        ("sigma", FLOW, 0.6),
        ("log_sigma", FLOW, np.log(0.6) / 4),
    ],
)
def test_a_network_is_fed_the_time_in_its_own_unit(kind, spec, want):
    t = {"vp": 600.4, "flow": 0.6, "ve": 3.0}[spec.schedule.kind]
    spec = dataclasses.replace(spec, time=TimeInput(kind=kind, fractions=True))
    assert point(spec, t).time == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(("kind", "want"), [("index", 600.0), ("unit", 600 / 999)])
def test_a_network_of_whole_indices_is_fed_a_whole_one(kind, want):
    spec = dataclasses.replace(VP, time=TimeInput(kind=kind))
    at = point(spec, 600.4)
    assert at.time == pytest.approx(want, rel=1e-15)
    assert (at.alpha, at.sigma) == tuple(VP.schedule.alpha_sigma(600.4))


@pytest.mark.parametrize("spec", [VP, VE, EDM, FLOW])
def test_the_clean_end_feeds_the_network_its_first_time(spec):
    end = point(spec, spec.schedule.clean)
    first = point(spec, float(spec.schedule.from_index(0)))
    assert (end.alpha, end.sigma, end.index, end.level) == (1.0, 0.0, -1.0, 0.0)
    assert end.time == first.time


def test_diffusers_stepping_is_of_index_grids_only():
    stepped = diffusers_stepping.DDIM.steps_over(VP, 7, "trailing")
    assert [now.index - then.index for now, then in stepped[:-1]] == [142.0] * 6
    own = diffusers_stepping.DDIM.steps_over(VP, 7, "karras")
    assert own == steps_over(VP, 7, "karras")
