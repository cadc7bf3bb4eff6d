import numpy as np
import pytest
from specs import spec_of

from revstep import build_program
from revstep.engine.program.vector import Symbol, Vector
from revstep.errors import ProgramError
from revstep.samplers import DDIM

SPEC = spec_of(shape=(2,))


def test_a_users_own_ddim_gives_the_same_table():
    def mine(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + then.sigma * d.eps
        return x

    mine_rows = build_program(SPEC, mine, 15).rows
    np.testing.assert_allclose(mine_rows, build_program(SPEC, DDIM(), 15).rows, rtol=1e-12)


X = Vector({Symbol(0, "x"): 1.0})


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda: X * X, "multiplying two vectors"),
        (lambda: X / X, "dividing by a vector"),
        (lambda: X**2, "power"),
        (lambda: abs(X), "norm"),
        (lambda: X + 1.0, "adding a number"),
        (lambda: X > 0, "comparing or clipping"),
        (lambda: np.clip(X, -1, 1), r"reading \.clip of a vector"),
        (lambda: np.tanh(X), "not affine"),
        (lambda: float(X), "reading"),
        (lambda: 1 if X else 0, "branching"),
        (lambda: X * np.ones(3), r"multiplying a vector by an array of shape \(3,\)"),
        (lambda: X / 0.0, "divided a vector by 0"),
    ],
)
def test_what_is_not_affine_is_refused(operation, message):
    with pytest.raises(ProgramError, match=message):
        operation()


def test_numpy_scalars_scale_from_both_sides():
    for scaled in (np.float64(2.0) * X, X * np.float32(2.0), 2 * X, X / 0.5):
        assert scaled.terms == {Symbol(0, "x"): 2.0}


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (lambda run: run.noise(), "comes after the first"),
        (lambda run: run.x, "no network call"),
        (lambda run: run.denoise(2 * run.x, run.steps[0][0]).x0, "must be on run.x"),
        (lambda run: [run.denoise(run.x, run.steps[0][0])], "returns its final state; got list"),
        (lambda run: run.denoise(run.x, run.steps[0][0]).x0 + run.noise() + run.noise(), "twice"),
        (
            lambda run: run.denoise(run.x, run.steps[0][0]).x0 + run.learned_noise(-1.0, -2.0),
            "learned variance",
        ),
    ],
)
def test_misuse_of_a_run_is_refused(sampler, message):
    with pytest.raises(ProgramError, match=message):
        build_program(SPEC, sampler, 3)
