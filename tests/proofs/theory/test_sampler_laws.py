"""The laws of the stochastic samplers: against a known one, and controls that must fail."""

import dataclasses

import numpy as np
import pytest

from proofs.theory import fused_runs
from proofs.theory import sampler_laws as proof
from proofs.theory.convergence import SLACK
from proofs.theory.mixture import three_modes
from proofs.theory.two_sample import two_sample
from revstep.engine.program.samplers import SAMPLERS

STOCHASTIC = {
    *("ddim", "ddpm", "euler_ancestral", "dpm2_ancestral", "edm", "reverse_sde", "langevin"),
    *("predictor_corrector", "repaint", "consistency", "lcm", "tcd"),
    *("cogvideox_dpm", "sa_solver", "flow_euler_ancestral"),
    *(name for name in SAMPLERS if name.endswith("_sde")),
}
FEW = 4000  # samples
MAX_STEPS = 250
LAW_STEPS = (40, 80, 160)


def label(case):
    return case.label


def test_two_samples_of_one_law_pass_and_shifted_ones_do_not():
    mixture = three_modes()
    a, b = mixture.draw(FEW, 1), mixture.draw(FEW, 2)
    assert two_sample(a, b).p > proof.LEVEL
    assert two_sample(a, b + 0.1).p <= proof.LEVEL
    assert two_sample(a, mixture.mean + 1.1 * (b - mixture.mean)).p <= proof.LEVEL


def test_the_permutation_test_rejects_as_often_as_its_level():
    rng = np.random.default_rng(5)
    pairs = [rng.standard_normal((2, 200, 2)) for _ in range(200)]
    p = [two_sample(a, b, permutations=19, seed=n).p for n, (a, b) in enumerate(pairs)]
    share = np.mean(np.array(p) <= 0.2)
    assert 0.1 < share < 0.3


def test_every_stochastic_sampler_has_its_case():
    assert {case.sampler for case in proof.CASES} == STOCHASTIC


@pytest.mark.parametrize(
    "case", [case for case in proof.CASES if case.order is not None], ids=label
)
def test_the_law_of_one_mode_converges_with_its_order(case):
    found = proof.one_mode(case, LAW_STEPS)
    assert found["slope"] >= case.order - SLACK
    assert found["errors"][-1] < 1e-2


@pytest.mark.parametrize("number", range(len(proof.CASES)), ids=[label(c) for c in proof.CASES])
def test_samples_of_the_mixture_pass_and_come_closer_with_more_steps(number):
    case = proof.CASES[number]
    coarse, fine = case.steps[0], min(case.steps[-1], MAX_STEPS)
    found = proof.sampled(dataclasses.replace(case, steps=(coarse, fine)), number, FEW)
    assert not found["rejected"]
    assert max(found["mean"][1], found["covariance"][1]) < 4.0
    if not case.consistency:
        assert found["p"][0] <= proof.LEVEL
        assert found["distance"][1] < 0.5 * found["distance"][0]


@pytest.mark.parametrize("case", proof.CONTROLS, ids=label)
def test_a_sampler_with_wrong_noise_keeps_its_error(case):
    found = proof.one_mode(case, LAW_STEPS)
    assert found["slope"] < 0.2
    assert found["errors"][-1] > 0.04


@pytest.mark.slow
@pytest.mark.parametrize("case", proof.CONTROLS, ids=label)
def test_samples_of_a_sampler_with_wrong_noise_are_rejected(case):
    found = proof.sampled(case)
    assert found["rejected"]
    assert found["covariance"][-1] > 4.0


def test_the_engine_itself_samples_the_mixture_and_repaints():
    pytest.importorskip("torch")
    engine = fused_runs.mixture_engine()
    x = engine.sample(fused_runs.SAMPLES, sampler="dpmpp_2m_sde", steps=100, seed=0).x
    exact = three_modes().draw(fused_runs.SAMPLES, 5)
    assert two_sample(x.astype(np.float64), exact).p > proof.LEVEL
    once, calls = fused_runs.repainted(engine, 1)
    thrice, more = fused_runs.repainted(engine, 4)
    assert more > 2 * calls
    assert thrice.distance < 0.85 * once.distance
