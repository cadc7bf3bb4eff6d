"""azula 0.11: the engine's samples are those of its own samplers, whatever the noise schedule."""

import numpy as np
import pytest
from example_files import imported
from trainers import ROUNDING, asserts_time_matters, bundled, distance, library, lively

import revstep

azula = library("azula")
torch = pytest.importorskip("torch")
example = imported("trainers/azula_denoiser.py")
denoise, noise, sample = example.azula.denoise, example.azula.noise, example.azula.sample

SCHEDULES = ("VPSchedule", "VESchedule", "CosineSchedule", "RectifiedSchedule", "DecaySchedule")
KINDS = ("KarrasDenoiser", "SimpleDenoiser")


def denoiser_of(kind, schedule, backbone=None):
    backbone = example.UNet() if backbone is None else backbone
    return getattr(denoise, kind)(lively(backbone), getattr(noise, schedule)()).eval()


def own(sampler, **conditions):
    """(azula's samples, the noise that they began with)."""
    torch.manual_seed(0)
    x = sampler.init((2, 1, 8, 8))
    _, last = sampler.denoiser.schedule(torch.tensor(1.0))
    return sampler(x, **conditions).numpy(), (x / last).numpy()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_equals_azula(kind, schedule):
    sampler = sample.DDIMSampler(denoiser_of(kind, schedule), steps=16, silent=True)
    want, start = own(sampler)
    module, spec = example.from_denoiser(sampler.denoiser, (1, 8, 8))
    asserts_time_matters(module, spec)
    engine = revstep.from_module(module, spec, device="cpu")
    got = engine.sample(2, noise=start, sampler="ddim", grid=example.own_grid(sampler)).x
    assert distance(got, want) < ROUNDING


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("EulerSampler", revstep.samplers.Euler()),
        ("HeunSampler", revstep.samplers.Heun()),
        ("zABSampler", revstep.samplers.LMS(order=2)),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_other_samplers_of_azula_have_their_counterpart(kind, theirs, ours):
    own_denoiser = denoiser_of(kind, "VESchedule")
    sampler = getattr(sample, theirs)(own_denoiser, steps=16, silent=True)
    want, start = own(sampler)
    engine = revstep.from_module(*example.from_denoiser(own_denoiser, (1, 8, 8)), device="cpu")
    got = engine.sample(2, noise=start, sampler=ours, grid=example.own_grid(sampler)).x
    assert distance(got, want) < ROUNDING


def test_conditions_are_the_backbones_arguments_by_name():
    class Labelled(example.UNet):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(3, 16)

        def forward(self, x, t, *, label):
            return self.unet(x, self.encode(t) + self.table(label))

    own_denoiser = denoiser_of("KarrasDenoiser", "CosineSchedule", Labelled())
    label = revstep.Condition(name="label", dtype="int64", classes=3)
    sampler = sample.DDIMSampler(own_denoiser, steps=8, silent=True)
    engine = revstep.from_module(
        *example.from_denoiser(own_denoiser, (1, 8, 8), (label,)), device="cpu"
    )
    want, start = own(sampler, label=torch.tensor([0, 2]))
    got = [
        engine.sample(
            2, noise=start, grid=example.own_grid(sampler), conditions={"label": labels}
        ).x
        for labels in ([0, 2], [1, 1])
    ]
    assert distance(got[0], want) < ROUNDING
    assert distance(got[1], want) > 0.01


def test_a_condition_whose_logarithm_is_taken_needs_an_example(tmp_path):
    """Export tries conditions with N(0, 1); a caller's own values must do where those can't."""
    pytest.importorskip("onnxruntime")
    from revstep.export import export_module

    class Long(example.UNet):
        def forward(self, x, t, *, length):
            return self.unet(x, self.encode(t) + self.encode(length.log()))

    own_denoiser = denoiser_of("KarrasDenoiser", "CosineSchedule", Long())
    bare = revstep.Condition(name="length")
    path = tmp_path / "long.revstep"
    with pytest.raises(revstep.RevstepError, match="example="):
        export_module(*example.from_denoiser(own_denoiser, (1, 8, 8), (bare,)), path)
    assert not path.exists()
    given = revstep.Condition(name="length", example=[3.0, 40.0])
    export_module(*example.from_denoiser(own_denoiser, (1, 8, 8), (given,)), path)
    sampler = sample.DDIMSampler(own_denoiser, steps=8, silent=True)
    want, start = own(sampler, length=torch.tensor([5.0, 21.0]))
    engine = revstep.load(path)
    got = engine.sample(
        2, noise=start, grid=example.own_grid(sampler), conditions={"length": [5.0, 21.0]}
    ).x
    assert distance(got, want) < ROUNDING


def test_a_bundle_in_half_and_in_float_equals_azula(tmp_path):
    own_denoiser = denoiser_of("KarrasDenoiser", "CosineSchedule")
    sampler = sample.DDIMSampler(own_denoiser, steps=16, silent=True)
    want, start = own(sampler)
    parts = example.from_denoiser(own_denoiser, (1, 8, 8))
    for engine, bound in bundled(tmp_path / "unet.revstep", *parts):
        got = engine.sample(2, noise=start, grid=example.own_grid(sampler)).x
        assert distance(got, want) < bound


def test_without_its_grid_the_last_noise_goes_too():
    """azula ends at sigma_min; revstep's own grids at 0, and as near to the same samples."""
    own_denoiser = denoiser_of("KarrasDenoiser", "CosineSchedule")
    want, start = own(sample.DDIMSampler(own_denoiser, steps=400, silent=True))
    engine = revstep.from_module(*example.from_denoiser(own_denoiser, (1, 8, 8)), device="cpu")
    assert distance(engine.sample(2, noise=start, steps=400).x, want) < 0.05


def test_another_denoiser_is_refused_by_name():
    other = denoise.GaussianDenoiser(torch.zeros(8), None, noise.VPSchedule())
    with pytest.raises(ValueError, match="GaussianDenoiser is neither"):
        example.from_denoiser(other, (8,))


def test_the_factory_is_one():
    module, spec = example.build()
    engine = revstep.from_module(module, spec, device="cpu")
    assert np.isfinite(engine.sample(1, steps=2, seed=0).x).all()
