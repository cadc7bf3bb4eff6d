"""The control loop and its policy, beside what is known of both exactly."""

import re

import numpy as np
import pytest
from example_files import imported, printed
from serving import settle
from stepwise import Stepwise

import revstep

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

LATER_S = 60.0  # no tick of a test takes so long


@pytest.fixture(scope="module")
def policy():
    return imported("service/policy.py")


@pytest.fixture(scope="module")
def loop():
    return imported("service/control_loop.py")


@pytest.fixture(scope="module")
def bundle(policy, tmp_path_factory):
    from revstep.export import export_module

    path = tmp_path_factory.mktemp("policy") / "policy.revstep"
    export_module(*policy.build(), path, source={"kind": "factory", "name": "policy:build"})
    return path


@pytest.fixture(scope="module")
def engine(bundle):
    return revstep.load(bundle, threads=1)


def expert(policy, offset):
    """Mean (16, 2) and covariance (16, 16) of the plans, from the text of the policy alone."""
    tick = np.arange(policy.HORIZON)
    share = policy.GAIN * (1 - policy.GAIN) ** tick[:, None]  # of the offset, at each tick
    mean = share * np.asarray(offset) / policy.SPEED
    curve = np.exp(-((tick[:, None] - tick) ** 2) / (2 * policy.SMOOTH**2))
    return mean, policy.SPREAD**2 * curve


def test_the_policy_is_the_conditional_mean_of_its_plans(policy):
    module, spec = policy.build()
    rng = np.random.default_rng(0)
    noisy, k = rng.normal(size=(5, *spec.shape)), np.array([0, 7, 50, 90, 99])
    offset = rng.normal(size=(5, 2))
    alpha, sigma = spec.schedule.alpha_sigma(k)
    with torch.no_grad():
        got = module(*(torch.tensor(v, dtype=torch.float32) for v in (noisy, k, offset))).numpy()
    for row in range(5):
        mean, covariance = expert(policy, offset[row])
        seen = alpha[row] ** 2 * covariance + sigma[row] ** 2 * np.eye(policy.HORIZON)
        residual = noisy[row] - alpha[row] * mean
        want = mean + alpha[row] * covariance @ np.linalg.solve(seen, residual)
        np.testing.assert_allclose(got[row], want, rtol=0, atol=2e-6)


def test_sampled_plans_have_the_experts_mean_and_spread(policy, engine):
    n, offset = 1200, [0.8, -0.4]
    plans = engine.sample(
        n, sampler="dpmpp_2m", steps=32, seed=1, conditions={"observation": offset}
    ).x
    mean, covariance = expert(policy, offset)
    spread = np.sqrt(np.diag(covariance))
    assert np.abs(plans.mean(0) - mean).max() < 5 * spread.max() / np.sqrt(n)
    np.testing.assert_allclose(plans.std(0) / spread[:, None], 1, atol=0.1)


def test_a_robot_whose_plans_come_in_time_reaches_every_goal(loop, engine):
    with revstep.Service(engine) as service:
        found = loop.drive(service, ticks=150, tick_s=0.0, deadline_s=LATER_S)
        outcomes = service.stats().outcomes
    assert found.missed == 0
    assert len(found.plan_ms) == 150
    assert outcomes["completed"] == 152  # and two before it drove
    for jump in (0, 50, 100):
        assert found.distance[jump] > 0.7
        assert max(found.distance[jump + 35 : jump + 50]) < 0.2


def test_a_plan_starts_from_the_last_one(loop, engine):
    """Half of the steps, and of two last plans that differ much the next ones differ less."""
    last = np.full((16, 2), 0.8, np.float32)
    with revstep.Service(engine) as service:
        plans = [
            loop.next_plan(service, np.zeros(2, np.float32), way * last, 0, LATER_S)
            for way in (-1, 1)
        ]
        assert service.stats().steps == 2 * loop.STEPS * loop.STRENGTH
    kept = (plans[1] - plans[0]).mean() / 1.6
    assert 0.2 < kept < 0.9


def test_a_robot_whose_plans_all_come_too_late_drives_its_first_one_on(loop, policy):
    network = Stepwise(policy.build()[1], lambda x, t, conditions: np.full_like(x, 0.2))
    network.slow_s = 0.02  # a plan takes 8 calls
    with revstep.Service(revstep.Engine(network)) as service:
        found = loop.drive(service, ticks=8, tick_s=0.01, deadline_s=0.01)
        stats = settle(service)
    assert (found.missed, found.late, found.plan_ms) == (8, 8, [])
    way = 0.05 * 0.2 * np.arange(1, 9)[:, None] * np.ones(2)
    np.testing.assert_allclose(
        found.distance, np.linalg.norm(np.array([1.0, 0.0]) - way, axis=1), rtol=1e-5
    )
    assert stats.outcomes["completed"] == 2
    assert stats.outcomes["cancelled"] + stats.outcomes["expired"] == 8


def test_the_program_reports_each_robot(bundle):
    lines = printed(
        "service/control_loop.py", bundle, "--robots", 3, "--hz", 100, "--ticks", 30
    ).splitlines()
    assert len(lines) == 3
    for robot, line in enumerate(lines):
        found = re.match(r"robot (\d): (\d+) of 30 plans missed their deadline, (\d+) ticks", line)
        assert found, line
        assert int(found[1]) == robot
        assert "from the goal" in line
