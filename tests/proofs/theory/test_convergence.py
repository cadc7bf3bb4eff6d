"""Solvers on data whose probability flow is known: orders, training points, descriptions."""

import functools

import numpy as np
import pytest

from proofs.float64_rows import run_rows
from proofs.theory import convergence as proof
from proofs.theory.descriptions import DEPENDENT, INVARIANT, NOT_COMPARED, largest_difference
from proofs.theory.mixture import MixtureNetwork, three_modes
from proofs.theory.noise_processes import even_grid, process
from proofs.theory.training_set import SAMPLERS, ended_on, returned
from revstep import sampler
from revstep.engine.program.samplers import SAMPLERS as NAMES
from revstep.engine.program.samplers import make_sampler
from revstep.engine.program.table import build_program
from revstep.engine.spec.prediction import OVER_AN_INTERVAL, PREDICTIONS

FEW = (50, 100)
ODE = {
    *("ddim", "euler", "heun", "edm", "dpm2", "dpmpp_1s", "dpmpp_2s", "dpmpp_2m", "dpmpp_3m"),
    *("unipc", "deis", "sa_solver", "lms", "ipndm", "pndm"),
    *("flow_euler", "flow_heun", "flow_euler_ancestral"),
}


@pytest.fixture(scope="module")
def reference():
    @functools.cache
    def between(levels):
        return proof.Reference(levels)

    return lambda case: between(case.levels)


def label(case):
    return f"{case.label} {case.even}"


def slope(found, start):
    return proof.fitted_slope(FEW, [errors[start] for errors in found])


def test_the_posterior_mean_is_the_integral():
    """E[x0 given x] by a fine sum over the plane."""
    mixture, alpha, sigma = three_modes(), 0.8, 0.6
    axis = np.linspace(-4.0, 4.0, 401)
    plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    squared = np.sum((plane[:, None] - mixture.means) ** 2, -1)
    density = (mixture.weights / mixture.widths**2 * np.exp(-squared / 2 / mixture.widths**2)).sum(
        1
    )
    x = np.array([[0.3, -0.5], [-1.0, 0.4], [0.2, 1.5]])
    for point, found in zip(x, mixture.denoised(x, alpha, sigma), strict=True):
        weight = density * np.exp(-np.sum((point - alpha * plane) ** 2, 1) / 2 / sigma**2)
        np.testing.assert_allclose(found, weight @ plane / weight.sum(), rtol=1e-9)


def test_the_flow_takes_the_law_of_one_level_to_that_of_another():
    """For one mode the flow is known in closed form."""
    from proofs.theory.mixture import Mixture

    one = Mixture(np.array([1.0]), np.array([[1.0, -2.0]]), np.array([0.5]))
    y = np.array([[3.0, 1.0], [-4.0, 0.0]])
    shrink = np.hypot(0.5, 0.1) / np.hypot(0.5, 7.0)
    want = one.means + shrink * (y - one.means)
    np.testing.assert_allclose(one.flow(y, 7.0, 0.1, 200), want, rtol=1e-10)


def test_every_ode_solver_has_its_case():
    assert {case.sampler for case in proof.CASES} == ODE
    assert set(NAMES) > ODE


@pytest.mark.parametrize("case", proof.CASES, ids=label)
def test_a_solver_converges_with_its_order(case, reference):
    found = [reference(case).errors(case, steps) for steps in FEW]
    assert slope(found, "own") >= case.own_order - proof.SLACK
    assert ("exact" in found[0]) == bool(case.history)
    if case.history:
        assert slope(found, "exact") >= case.order - proof.SLACK


def test_the_published_third_order_step_is_of_second_order(reference):
    published = proof.Case(
        "dpmpp_3m", 3, "vp", "lambda", {"lower_order_final": False}, history=(0, 1)
    )
    found = [reference(published).errors(published, steps) for steps in FEW]
    assert 1.8 <= slope(found, "exact") <= 2.3


def test_the_third_order_option_is_checked():
    with pytest.raises(ValueError, match="published, taylor"):
        make_sampler("dpmpp_3m", third="fourth")


def test_a_solver_with_a_wrong_weight_loses_its_order(reference):
    @sampler
    def wrong(run):
        x = run.x
        for now, then in run.steps:
            h = then.sigma - now.sigma
            d = run.denoise(x, now)
            e = run.denoise(x + h * d.eps, then)
            x = x + h * (0.51 * d.eps + 0.49 * e.eps)
        return x

    spec, case = process("edm"), proof.Case("heun", 2, "edm", "sigma/alpha")
    errors = []
    for steps in FEW:
        program = build_program(spec, wrong, grid=even_grid(spec, case.even, case.levels, steps))
        exact = reference(case)
        x, _ = run_rows(program, exact.start, MixtureNetwork(exact.mixture, spec))
        errors.append(np.sqrt(np.mean((x - exact.end) ** 2)))
    assert proof.fitted_slope(FEW, errors) < 2 - proof.SLACK


@pytest.mark.parametrize("prediction", [p for p in PREDICTIONS if p not in OVER_AN_INTERVAL])
def test_every_prediction_arrives_at_the_same_point(prediction, reference):
    case = proof.Case("dpmpp_2m", 2, "vp", "lambda", {"lower_order_final": False})
    spec = process("vp", prediction)
    grid = even_grid(spec, case.even, case.levels, 40)
    program = build_program(spec, "dpmpp_2m", grid=grid)
    exact, first, last = reference(case), program.points[0], program.points[-1]
    network = MixtureNetwork(exact.mixture, spec)
    x, _ = run_rows(program, first.alpha * exact.start, network)
    error = float(np.sqrt(np.mean((x / last.alpha - exact.end) ** 2)))
    assert error == pytest.approx(exact.errors(case, 40)["own"], rel=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_runs_from_noise_end_on_training_points(name):
    found = ended_on(name)
    mixes = name in ("lms", "ipndm", "pndm")  # older noises in the last step
    assert found["farthest"] <= (0.03 if mixes else 1e-12)
    assert found["points_reached"] > 50


def test_a_training_point_comes_back_where_the_noise_leaves_no_doubt():
    sure = returned(0.1)
    assert sure["own_point_probability"] > 0.9999
    assert sure["returned"] == 1.0
    noise = returned(1.0)
    assert noise["own_point_probability"] < 0.02
    assert noise["returned"] < 0.1


def test_no_sampler_is_left_out_of_the_descriptions():
    named = {label.partition("(")[0] for label in (*INVARIANT, *DEPENDENT)}
    assert named.isdisjoint(NOT_COMPARED)
    assert named | set(NOT_COMPARED) == set(NAMES)


@pytest.mark.parametrize("name", INVARIANT)
def test_three_descriptions_of_a_process_give_the_same_samples(name):
    assert largest_difference(name) < 1e-10


@pytest.mark.parametrize("name", DEPENDENT)
def test_samplers_that_depend_on_the_description_are_named(name):
    assert largest_difference(name) > 1e-3
