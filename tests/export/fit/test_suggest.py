"""Specs from exact networks of every prediction, and from a trained one."""

import dataclasses

import numpy as np
import pytest
import torch
from exact_module import ExactModule
from networks import NumpyDenoiser
from torch import nn
from toys import build

from proofs.theory.mixture import Mixture
from revstep import DenoiserSpec, SecondTime, TimeInput
from revstep.engine.program.points import points_at
from revstep.errors import BundleError, ExportError
from revstep.export import load_diffusers, reversed_flow, score_spec, suggest_specs
from revstep.schedules import (
    ContinuousVPSchedule,
    FlowSchedule,
    TrigFlowSchedule,
    VESchedule,
    VPSchedule,
)

SHAPE = (2, 4)
POINTS = Mixture(np.full(5, 0.2), np.random.default_rng(1).uniform(-1, 1, (5, 8)), np.full(5, 0.1))
DATA = POINTS.draw(24, seed=2).reshape(-1, *SHAPE).astype(np.float32)
COSINE = VPSchedule(betas="squaredcos_cap_v2")
TRAINED = [
    ("epsilon", VPSchedule(), "index"),
    ("sample", VPSchedule(steps=100, betas="squaredcos_cap_v2"), "index"),
    ("v_prediction", COSINE, "unit"),
    ("score", VPSchedule(), "index"),
    ("mean", VPSchedule(), "index"),
    ("epsilon", VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012), "log_snr"),
    ("epsilon", ContinuousVPSchedule(), "unit"),
    ("flow", FlowSchedule(), "unit"),
    ("flow", FlowSchedule(), "thousand"),
    ("score", VESchedule(), "sigma"),
    ("edm", VESchedule.edm(), "log_sigma"),
    ("sample", VESchedule.edm(), "sigma"),
    ("edm_v", TrigFlowSchedule(), "angle"),
]


def spec_of(prediction, schedule, kind):
    time = TimeInput(kind=kind, fractions=kind != "index")
    return DenoiserSpec(shape=SHAPE, schedule=schedule, prediction=prediction, time=time)


def guess(steps=1000):
    return spec_of("epsilon", VPSchedule(steps=steps), "index")


def told(spec, levels):
    """What the network is told at noise levels, and alpha there."""
    times = spec.schedule.from_lambda(-np.log(levels))
    spec = dataclasses.replace(spec, prediction="epsilon")
    return [[p.time, p.alpha] for p in points_at(spec, times)]


@pytest.mark.parametrize("trained", TRAINED, ids=lambda t: f"{t[0]}, {t[1].kind}, {t[2]}")
def test_the_first_suggestion_is_what_the_network_was_trained_with(trained):
    spec = spec_of(*trained)
    best = suggest_specs(ExactModule(POINTS, spec), guess(spec.schedule.steps), DATA)[0]
    assert best.fits
    assert best.spec.prediction == spec.prediction
    levels = np.array([0.1, 0.5, 2.0])
    if spec.schedule.kind == "vp_continuous" or best.spec.schedule.kind == "vp_continuous":
        levels = levels[1:]  # near the clean end a table of 1000 is another function
    assert np.array(told(best.spec, levels)) == pytest.approx(
        np.array(told(spec, levels)), rel=0.02
    )


@pytest.mark.parametrize("trained", TRAINED, ids=lambda t: f"{t[0]}, {t[1].kind}, {t[2]}")
def test_the_right_spec_fits_with_errors_that_fall_with_the_noise(trained):
    spec = spec_of(*trained)
    found = score_spec(ExactModule(POINTS, spec), spec, DATA)
    assert found.fits
    assert found.score < 0.8
    assert max(found.errors) < 1.1 * DATA.std()
    assert found.errors[0] < 0.15 * DATA.std()
    assert list(found.levels) == sorted(found.levels)
    assert found.reverse_span is None


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction": "v_prediction"},
        {"prediction": "sample"},
        {"prediction": "score"},
        {"prediction": "mean"},
        {"schedule": VPSchedule(steps=100)},
        {"time": TimeInput(kind="unit", fractions=True)},
        {"time": TimeInput(kind="sigma")},
        {"schedule": FlowSchedule()},
        {"schedule": VESchedule()},
    ],
    ids=str,
)
def test_another_spec_does_not_fit_and_scores_worse(changes):
    network = ExactModule(POINTS, guess())
    wrong = score_spec(network, dataclasses.replace(guess(), **changes), DATA)
    assert not wrong.fits
    assert wrong.score > 1.3 * score_spec(network, guess(), DATA).score


def test_a_wrong_spec_may_fit_but_scores_worse():
    network = ExactModule(POINTS, guess())
    shrinks = score_spec(network, spec_of("flow", FlowSchedule(), "index"), DATA)
    assert shrinks.fits
    assert shrinks.score > 1.3 * score_spec(network, guess(), DATA).score


def test_for_a_single_gaussian_the_right_error_is_the_linear_one():
    one = Mixture(np.ones(1), np.zeros((1, 8)), np.full(1, 0.5))
    data = one.draw(400, seed=0).reshape(-1, *SHAPE)
    found = score_spec(ExactModule(one, guess()), guess(), data)
    assert np.array(found.errors) == pytest.approx(np.array(found.linear_errors), rel=0.05)


def test_a_flow_from_noise_to_data_is_found_and_wrapped():
    spec = spec_of("flow", FlowSchedule(), "thousand")

    class FromNoise(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = ExactModule(POINTS, spec)

        def forward(self, x, t):
            return -self.network(x, 1000.0 - t)

    best = suggest_specs(FromNoise(), guess(), DATA)[0]
    assert (best.spec.prediction, best.spec.time.kind) == ("flow", "thousand")
    assert best.reverse_span == 1000.0
    assert "reversed_flow(module, 1000)" in str(best)
    wrapped = score_spec(reversed_flow(FromNoise(), best.reverse_span), best.spec, DATA)
    assert wrapped.errors == pytest.approx(best.errors, rel=1e-4)


def test_data_scaled_otherwise_than_in_training_do_not_fit():
    network = ExactModule(POINTS, guess())
    assert not score_spec(network, guess(), 4.0 * DATA).fits
    with pytest.raises(ValueError, match=r"data: their spread is 3.*e.03, and the schedule's"):
        score_spec(network, spec_of("epsilon", VESchedule(), "index"), 6000.0 * DATA)
    with pytest.raises(ValueError, match="scale the data as in training"):
        suggest_specs(network, guess(), 1e7 * DATA)


def test_what_is_no_data_is_refused_by_name():
    network = ExactModule(POINTS, guess())
    with pytest.raises(ValueError, match="data"):
        score_spec(network, guess(), DATA[:, :1])
    with pytest.raises(TypeError, match="data"):
        score_spec(network, guess(), (DATA * 255).astype(np.uint8))
    with pytest.raises(ValueError, match="all one number"):
        score_spec(network, guess(), np.zeros((8, *SHAPE)))
    with pytest.raises(TypeError, match="the network must be a torch"):
        suggest_specs(lambda x, t: x, guess(), DATA)


@pytest.mark.parametrize("ask", [score_spec, suggest_specs])
def test_what_is_no_spec_no_samples_or_no_seed_is_refused_by_name(ask):
    network = ExactModule(POINTS, guess())
    for spec in (None, {}):
        with pytest.raises(TypeError, match="spec must be a DenoiserSpec; got"):
            ask(network, spec, DATA)
    with pytest.raises(TypeError, match=r"data must be true samples .*; got None"):
        ask(network, guess(), None)
    with pytest.raises(TypeError, match="seed must be a whole number; got str 'a'"):
        ask(network, guess(), DATA, seed="a")


@pytest.mark.parametrize("schedules", [VPSchedule(), [5], "vp"])
def test_what_is_no_list_of_schedules_is_refused(schedules):
    with pytest.raises(TypeError, match=r"schedules must be a (list of schedules|schedule)"):
        suggest_specs(ExactModule(POINTS, guess()), guess(), DATA, schedules=schedules)


def test_what_no_flow_can_be_reversed_of_is_refused():
    with pytest.raises(TypeError, match="the module must be a torch"):
        reversed_flow(5)
    with pytest.raises(TypeError, match="span must be a number"):
        reversed_flow(nn.Identity(), "x")
    with pytest.raises(ValueError, match="span=0 is out of range"):
        reversed_flow(nn.Identity(), 0)


def test_times_that_a_table_does_not_have_are_left_out():
    class Table(ExactModule):
        def forward(self, x, t):
            if (t != t.round()).any() or (t < 0).any() or (t > 999).any():
                raise IndexError("index out of range in self")
            return super().forward(x, t)

    found = suggest_specs(Table(POINTS, guess()), guess(), DATA)
    assert found[0].spec == guess()
    assert {s.spec.time.kind for s in found} <= {"index", "thousand"}


def test_a_network_of_two_times_is_asked_for_its_velocity():
    class AverageVelocity(nn.Module):
        """Right where both times are one; else it gives nothing that is of use."""

        def __init__(self, of):
            super().__init__()
            self.velocity, self.of = (
                ExactModule(POINTS, spec_of("flow", FlowSchedule(), "unit")),
                of,
            )

        def forward(self, x, t, second):
            length = second if self.of == "length" else t - second
            return self.velocity(x, t) + 5.0 * length.reshape(-1, 1, 1)

    for of in ("end", "length"):
        two = dataclasses.replace(
            spec_of("flow", FlowSchedule(), "unit"),
            prediction="average_velocity",
            second_time=SecondTime(kind="unit", of=of),
        )
        assert score_spec(AverageVelocity(of), two, DATA).fits
        other = dataclasses.replace(two, second_time=SecondTime(kind="thousand"))
        assert not score_spec(AverageVelocity("end"), other, DATA).fits
    with pytest.raises(ValueError, match="second time"):
        suggest_specs(AverageVelocity("end"), two, DATA)
    with pytest.raises(ValueError, match="'jump' gives a sample"):
        score_spec(AverageVelocity("end"), dataclasses.replace(two, prediction="jump"), DATA)


def test_a_network_that_always_fails_says_why():
    class Fails(nn.Module):
        def forward(self, x, t):
            raise RuntimeError("no weights here")

    with pytest.raises(ExportError, match="no weights here"):
        suggest_specs(Fails(), guess(), DATA)


def test_any_denoiser_is_taken_and_own_schedules_are_the_only_others():
    module = ExactModule(POINTS, spec_of("epsilon", COSINE, "index"))

    def network(x, t, conditions):
        return module(torch.from_numpy(x), torch.from_numpy(t)).numpy()

    denoiser = NumpyDenoiser(guess(), network)
    found = suggest_specs(denoiser, guess(), DATA, schedules=[COSINE, FlowSchedule()])
    assert found[0].spec.schedule == COSINE
    assert {s.spec.schedule for s in found} <= {VPSchedule(), COSINE, FlowSchedule()}


def test_a_bundle_is_asked_by_its_path(tabular_bundle):
    module, spec, _ = build("tabular")
    data = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)
    own = score_spec(module, spec, data)
    assert score_spec(tabular_bundle, spec, data).errors == pytest.approx(own.errors, rel=1e-5)
    assert score_spec(str(tabular_bundle), spec, data).score == pytest.approx(own.score, rel=1e-5)
    with pytest.raises(BundleError):
        score_spec(tabular_bundle.with_name("nowhere.revstep"), spec, data)


def test_the_bundled_unets_own_samples_find_its_spec(demo_folder):
    from safetensors.numpy import load_file

    module, spec, *_ = load_diffusers(demo_folder, null_class=10)
    images = load_file(demo_folder / "golden.safetensors")["ddim20_w1p5_final"][:6]
    wrong = dataclasses.replace(spec, prediction="epsilon", schedule=VPSchedule())
    labels = {"class_labels": np.arange(6)}
    found = suggest_specs(module, wrong, images, conditions=labels, schedules=[COSINE])
    assert found[0].spec == spec
    assert found[0].score < 0.5
    own = score_spec(module, spec, images, conditions=labels)
    unlabelled = score_spec(module, spec, images)
    assert own.score < unlabelled.score
