"""RePaint's walk: its jumps, and that going up is folded into the row before."""

import itertools

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon
from specs import spec_of

from revstep import Engine
from revstep.engine.program.samplers import RePaint
from revstep.engine.program.samplers.repaint import jump_schedule
from revstep.engine.program.table import build_program
from revstep.kernels import columns as col
from revstep.samplers import DDIM

SPEC = spec_of(shape=(6,), batch=(1, 512))


def one_by_one(visited):
    """Every position passed: a jump is one entry of the schedule."""
    passed = visited[:1]
    for at in visited[1:]:
        passed += range(passed[-1] + 1, at + 1) if at > passed[-1] else [at]
    return passed


def test_the_walk_is_the_papers():
    """Written out from figure 9 of the paper: down by 2, up by 2, twice each."""
    assert jump_schedule(6, 2, 2) == [5, 4, 3, 2, 4, 3, 2, 1, 0, 2, 1, 0, -1]
    assert jump_schedule(4, 10, 10) == [3, 2, 1, 0, -1]


@pytest.mark.parametrize(
    ("steps", "length", "repeats"), [(250, 10, 10), (50, 5, 3), (20, 1, 4), (7, 3, 1)]
)
def test_the_walk_visits_the_positions_of_diffusers(steps, length, repeats):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.RePaintScheduler()
    scheduler.set_timesteps(steps, jump_length=length, jump_n_sample=repeats)
    want = scheduler.timesteps.numpy() // (1000 // steps)
    assert one_by_one(jump_schedule(steps, length, repeats))[:-1] == want.tolist()


def test_the_network_is_called_for_the_steps_down_only():
    times = []
    exact = gaussian_epsilon(SPEC)

    def network(x, t, conditions):
        times.append(float(t[0]))
        return exact(x, t, conditions)

    samples = Engine(NumpyDenoiser(SPEC, network)).sample(1, sampler=RePaint(2, 2), steps=5, seed=0)
    at = {4: 999, 3: 799, 2: 599, 1: 399, 0: 199}
    visited = jump_schedule(5, 2, 2)
    down = [a for a, b in itertools.pairwise(visited) if b < a]
    assert times == [at[a] for a in down]
    assert samples.calls == len(down) == 5 + 2 * 2


def test_one_repeat_is_ddim_with_that_eta():
    for eta in (0.0, 0.7, 1.0):
        a = build_program(SPEC, RePaint(3, 1, eta), 12)
        np.testing.assert_array_equal(a.rows, build_program(SPEC, DDIM(eta=eta), 12).rows)


def test_a_jump_is_the_step_and_the_noising_after_it():
    """Coefficients from the betas: x' = sqrt(1 - beta) x + sqrt(beta) z at every index up."""
    program = build_program(SPEC, RePaint(2, 2), 4, inpaint=True)
    betas = np.linspace(1e-4, 0.02, 1000)
    abar = np.cumprod(1 - betas)
    t, s, up = 499, 249, 749  # the third call; its step ends at the grid's last point, and jumps
    assert program.rows[2, col.TIME] == t
    assert program.rows[3, col.TIME] == up
    kept, added = 1.0, 0.0
    for beta in betas[s + 1 : up + 1]:
        kept, added = kept * np.sqrt(1 - beta), added * (1 - beta) + beta
    posterior = (1 - abar[s]) / (1 - abar[t]) * (1 - abar[t] / abar[s])
    c_eps = np.sqrt(1 - abar[s] - posterior) - np.sqrt(abar[s] * (1 - abar[t]) / abar[t])
    row = program.rows[2]
    np.testing.assert_allclose(row[col.C_X], kept * np.sqrt(abar[s] / abar[t]), rtol=1e-9)
    np.testing.assert_allclose(row[col.C_M], kept * c_eps, rtol=1e-9)
    np.testing.assert_allclose(row[col.S], np.sqrt(kept**2 * posterior + added), rtol=1e-9)
    np.testing.assert_allclose(row[col.KNOWN_ALPHA], np.sqrt(abar[up]), rtol=1e-9)
    np.testing.assert_allclose(row[col.KNOWN_SIGMA], np.sqrt(1 - abar[up]), rtol=1e-9)


def test_walking_back_and_forth_keeps_the_datas_law():
    """Without a mask: as near to N(0.5, 0.25²) as DDPM of as many steps comes."""
    e = Engine(NumpyDenoiser(SPEC, gaussian_epsilon(SPEC)))
    x, ddpm = (e.sample(1000, sampler=s, steps=100, seed=0).x for s in (RePaint(20, 3), "ddpm"))
    assert x.mean() == pytest.approx(0.5, abs=0.02)
    assert x.std() == pytest.approx(ddpm.std(), rel=0.04)
    assert x.std() == pytest.approx(0.25, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jump_length": 0}, "jump_length=0 is out of range; allowed: whole numbers, 1 or more"),
        ({"jump_length": 2.0}, "jump_length must be a whole number; got float 2.0"),
        ({"repeats": 0}, "repeats=0"),
        ({"repeats": True}, "repeats must be a whole number; got bool True"),
        ({"eta": 1.5}, r"eta=1.5 is out of range"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RePaint(**options)
