"""What the GPU suite samples and against whom: networks and loops, with and without diffusers."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from revstep.engine.spec.schedule import VPSchedule  # noqa: E402
from suites.gpu import networks, peers, runs  # noqa: E402
from suites.gpu.unet2d import UNet2d, UNet2dConfig  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


CONFIGS = {
    "plain": UNet2dConfig(3, (32, 64), 2, (False, True), None, 0, False, 1, 32, 1e-6),
    "classes": UNet2dConfig(1, (32, 48, 64), 1, (True, False, False), 16, 1, True, 0, 8, 1e-5, 11),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_plain_unet_is_diffusers_unet(name):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = networks.DiffusersUnet(CONFIGS[name]).eval()
    ours = UNet2d(CONFIGS[name]).eval()
    ours.load_state_dict(theirs.network.state_dict())
    x = torch.randn(3, CONFIGS[name].in_channels, 16, 16)
    t = torch.tensor([0.0, 3.0, 999.0])
    labels = [torch.tensor([0, 4, 10])] if name == "classes" else []
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t, *labels), theirs(x, t, *labels))


def test_the_plain_unet_gives_the_bundled_denoisers_golden_vectors(make_run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no diffusers
    network = networks.make_network(make_run(), "fashion")
    assert "diffusers is not installed" in network.what
    assert isinstance(network.module, UNet2d)
    golden = networks.read_weights(ROOT / "examples/fashion_mnist_unet/golden.safetensors")
    with torch.no_grad():
        v = network.module(golden["x"], golden["t"], golden["y"].long())
    assert float((v - golden["v"]).abs().max()) < 1e-4


def test_without_diffusers_the_peer_is_a_plain_loop_and_named_so(make_run, rows_of, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = make_run(dry=True)
    for name in ("policy", "cifar", "fashion"):
        runs._eager(run, name, 2)
    rows = rows_of(run)
    compared = [row for row in rows if row["peer"]]
    assert compared
    assert all(row["peer"].startswith("plain PyTorch loop") for row in compared)
    assert not any("diffusers" in row["peer"].split("of diffusers")[0] for row in compared)
    near = [row["value"] for row in rows if row["unit"] == "relative RMS"]
    assert len(near) == 4
    assert all(value < 1e-2 for value in near)


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
    first, second = (networks.make_network(make_run(dry=True), name) for _ in range(2))
    weights = list(zip(first.module.parameters(), second.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in weights)
    assert all(bool(a.any()) for a, _ in weights)  # no half that does nothing


def test_real_sizes_are_those_of_the_published_networks(make_run):
    # google/ddpm-cifar10-32: 35.7 M; Chi et al. 2023: about 65 M; the bundled one: its README
    counts = {
        name: networks.make_network(make_run(), name).parameters["weights"]
        for name in ("cifar", "fashion")
    }
    assert counts == {"cifar": 35_746_307, "fashion": 898_881}
