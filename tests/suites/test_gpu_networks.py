"""What the GPU suite samples and against whom: networks and loops, with and without diffusers."""

import pytest

torch = pytest.importorskip("torch")

from revstep.engine.spec.schedule import VPSchedule  # noqa: E402
from suites.gpu import networks, peers, runs  # noqa: E402


def test_without_diffusers_the_peer_is_a_plain_loop_and_its_networks_are_skipped(
    make_run, rows_of, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = make_run(dry=True)
    for name in networks.NETWORKS:
        run.attempt(name, 0, runs._eager, name, 2)
    rows = rows_of(run)
    skipped = {row["name"]: row["reason"] for row in rows if row["status"] == "skipped"}
    assert skipped == dict.fromkeys(("cifar", "fashion"), "diffusers is not installed")
    peers_named = {row["peer"].split(" of diffusers")[0] for row in rows if row["peer"]}
    assert peers_named == {"plain PyTorch loop with the operators"}
    near = [row["value"] for row in rows if row["unit"] == "relative RMS"]
    assert len(near) == 2
    assert all(value < 1e-2 for value in near)
    assert run.failures == 0


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "squaredcos_cap_v2"])
def test_the_plain_loop_is_diffusers_loop(prediction, betas):
    diffusers = pytest.importorskip("diffusers")
    schedule = VPSchedule(betas=betas)
    theirs = diffusers.DDIMScheduler(
        beta_schedule=betas, prediction_type=prediction, timestep_spacing="trailing"
    )
    ours = peers.PlainDdim(schedule, prediction)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(20, device="cpu")
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    x = y = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    for t in ours.timesteps:
        x = ours.step(0.3 * x.tanh(), t, x).prev_sample
        y = theirs.step(0.3 * y.tanh(), t, y).prev_sample
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)  # tables made in float32 or float64


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_network_has_the_same_weights_every_time(name, make_run):
    pytest.importorskip("diffusers")
    first, second = (networks.make_network(make_run(dry=True), name) for _ in range(2))
    weights = list(zip(first.module.parameters(), second.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in weights)
    assert all(bool(a.any()) for a, _ in weights)  # no half that does nothing


def test_real_sizes_are_those_of_the_published_networks(make_run):
    pytest.importorskip("diffusers")
    # google/ddpm-cifar10-32: 35.7 M; Chi et al. 2023: about 65 M; the bundled one: its README
    counts = {
        name: networks.make_network(make_run(), name).parameters["weights"]
        for name in ("cifar", "fashion")
    }
    assert counts == {"cifar": 35_746_307, "fashion": 898_881}
