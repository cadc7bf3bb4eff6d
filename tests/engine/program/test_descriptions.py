"""One Gaussian, described by every schedule, prediction and time input: the same data come out."""

import numpy as np
import pytest
from networks import NumpyDenoiser

from proofs.predictions import prediction_of
from revstep import DenoiserSpec, Engine, TimeInput
from revstep.schedules import FlowSchedule, TrigFlowSchedule, VESchedule, VPSchedule

MEAN, SPREAD, SIGMA_DATA = 0.5, 0.25, 0.6
VP, VE, FLOW = VPSchedule(), VESchedule(sigma_min=0.002, sigma_max=80.0), FlowSchedule()
TRIG = TrigFlowSchedule(sigma_data=SIGMA_DATA)
CASES = [
    (VP, "epsilon", "index"),
    (VP, "sample", "unit"),
    (VP, "v_prediction", "thousand"),
    (VP, "score", "sigma"),
    (VP, "epsilon", "log_snr"),
    (VP, "mean", "index"),
    (VPSchedule(betas="scaled_linear", zero_terminal_snr=True), "v_prediction", "index"),
    (VE, "epsilon", "sigma"),
    (VE, "edm", "log_sigma"),
    (VE, "score", "index"),
    (FLOW, "flow", "unit"),
    (FLOW, "v_prediction", "thousand"),
    (VP, "edm", "index"),
    (FLOW, "edm_v", "unit"),
    (TRIG, "edm_v", "angle"),
]


def natural_time(spec, time):
    """The schedule's time of what the network was fed."""
    schedule, kind = spec.schedule, spec.time.kind
    if kind == "sigma" and schedule.kind == "vp":
        alpha, sigma = schedule.alpha_sigma(np.arange(schedule.steps))
        return np.abs(np.log(sigma / alpha / time)).argmin()
    if kind == "log_snr" and schedule.kind == "vp":
        alpha, sigma = schedule.alpha_sigma(np.arange(schedule.steps))
        return np.abs(2 * np.log(alpha / sigma) - time).argmin()
    if kind in ("sigma", "log_sigma"):
        return time if kind == "sigma" else np.exp(4 * time)
    if kind == "angle":
        return min(time, np.pi / 2)  # float32 is above it
    unit = time / 1000 if kind == "thousand" else time
    if schedule.kind == "flow":
        return unit
    index = time if kind == "index" else unit * (schedule.steps - 1)
    return schedule.from_index(np.round(index))


def network_for(spec):
    def network(x, times, conditions):
        out = np.empty_like(x)
        for row, time in enumerate(np.asarray(times, np.float64)):
            t = float(natural_time(spec, time))
            alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(t))
            state = x[row].astype(np.float64)
            if spec.prediction in ("edm", "edm_v"):
                state = state * np.sqrt(sigma**2 + (alpha * SIGMA_DATA) ** 2)  # fed c_in x
            gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
            x0 = MEAN + gain * (state - alpha * MEAN)
            eps = (state - alpha * x0) / sigma
            out[row] = prediction_of(spec, state, x0, eps, t)
        return out

    return network


@pytest.mark.parametrize(("schedule", "prediction", "kind"), CASES)
def test_every_description_samples_the_same_gaussian(schedule, prediction, kind):
    spec = DenoiserSpec(
        shape=(64,),
        schedule=schedule,
        prediction=prediction,
        time=TimeInput(kind=kind),
        sigma_data=SIGMA_DATA,
    )
    x = (
        Engine(NumpyDenoiser(spec, network_for(spec)))
        .sample(40, sampler="dpmpp_2m", steps=100, seed=1)
        .x
    )
    assert x.mean() == pytest.approx(MEAN, abs=0.02)
    assert x.std() == pytest.approx(SPREAD, rel=0.04)


def test_variance_exploding_and_preserving_runs_of_one_process_agree():
    """x_ve = x_vp / alpha: DDIM through the same signal-to-noise ratios gives the same samples."""
    vp = DenoiserSpec(shape=(64,), schedule=VP, prediction="sample", time=TimeInput(kind="index"))
    noise = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    a = Engine(NumpyDenoiser(vp, network_for(vp))).sample(noise=noise, steps=200).x
    alpha, sigma = VP.alpha_sigma(999)
    ve = DenoiserSpec(
        shape=(64,),
        schedule=VESchedule(sigma_min=0.01, sigma_max=float(sigma / alpha)),
        prediction="sample",
        time=TimeInput(kind="sigma"),
    )
    b = Engine(NumpyDenoiser(ve, network_for(ve))).sample(noise=noise, steps=200).x
    np.testing.assert_allclose(a, b, atol=0.02)
