"""How many steps run from a start: by the paper, and by diffusers' own pipelines."""

import types

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon
from specs import spec_of

from revstep import DenoiserSpec, Engine, TimeInput, build_program
from revstep.engine.program.steps import steps_run
from revstep.schedules import FlowSchedule

SHAPE = (2, 3)
GRID = [(n, s) for n in (1, 2, 7, 10, 20, 30, 50) for s in (0.02, 0.1, 0.3, 0.33, 0.7, 0.99, 1.0)]
VP = spec_of(shape=SHAPE, batch=(1, 8))
FLOW = DenoiserSpec(
    shape=SHAPE,
    schedule=FlowSchedule(),
    prediction="flow",
    time=TimeInput(kind="unit", fractions=True),
)


def engine():
    return Engine(NumpyDenoiser(VP, gaussian_epsilon(VP)))


def in_pipeline(kind, steps, strength):
    """Timesteps that a pipeline's own ``get_timesteps`` leaves of ``steps``."""
    scheduler = types.SimpleNamespace(timesteps=list(range(steps)), order=1)
    fake = types.SimpleNamespace(scheduler=scheduler)
    return len(kind.get_timesteps(fake, steps, strength, "cpu")[0])


def test_the_papers_count_is_rounded_up():
    for steps, strength in GRID:
        share = round(strength * 100) * steps  # in whole hundredths: no rounding
        assert steps_run(steps, strength) == -(-share // 100)


@pytest.mark.parametrize("spec", [VP, FLOW], ids=["vp", "flow"])
def test_a_program_has_as_many_rows(spec):
    for compat in (None, "diffusers"):
        program = build_program(spec, "ddim", 9, strength=0.5, from_noise=False, compat=compat)
        assert program.length == (4 if compat and spec is VP else 5)


def test_compat_runs_what_an_image_to_image_pipeline_runs():
    pytest.importorskip("diffusers", minversion="0.42")
    from diffusers.pipelines.kandinsky2_2.pipeline_kandinsky2_2_img2img import (
        KandinskyV22Img2ImgPipeline,
    )

    for steps, strength in GRID:
        want = in_pipeline(KandinskyV22Img2ImgPipeline, steps, strength)
        if want == 0:
            with pytest.raises(ValueError, match="is less than one"):
                steps_run(steps, strength, "diffusers")
        else:
            assert steps_run(steps, strength, "diffusers") == want


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("StableDiffusionImg2ImgPipeline", "vp"),
        ("StableDiffusionInpaintPipeline", "vp"),
        ("StableDiffusion3Img2ImgPipeline", "flow"),
        ("StableDiffusion3InpaintPipeline", "flow"),
        ("FluxImg2ImgPipeline", "flow"),
    ],
)
def test_compat_runs_what_the_pipelines_run(name, kind):
    pytest.importorskip("transformers")
    diffusers = pytest.importorskip("diffusers", minversion="0.42")
    for steps, strength in GRID:
        want = in_pipeline(getattr(diffusers, name), steps, strength)
        if want > 0:
            assert steps_run(steps, strength, "diffusers", kind) == want
        else:
            assert kind == "vp"


def test_inversion_goes_as_far_as_the_way_back():
    x0 = np.random.default_rng(0).normal(0.5, 0.25, (2, *SHAPE)).astype(np.float32)
    for compat, calls in ((None, 5), ("diffusers", 4)):
        given = {"steps": 9, "strength": 0.5, "compat": compat}
        reported = []
        z = engine().invert(
            x0, progress=lambda *done, reported=reported: reported.append(done), **given
        )
        back = engine().sample(start=x0, noise=z, sampler="ddim", **given)
        assert back.calls == len(reported) == calls


@pytest.mark.parametrize("run", ["sample", "invert"])
def test_a_strength_of_no_step_is_refused_with_compat_by_name(run):
    y = np.zeros(SHAPE)
    given = {"steps": 4, "strength": 0.2, "compat": "diffusers"}
    with pytest.raises(ValueError, match=r"strength=0.2 of 4 steps .* at least 0.25"):
        engine().invert(y, **given) if run == "invert" else engine().sample(start=y, **given)
    given.pop("compat")
    engine().invert(y, **given) if run == "invert" else engine().sample(start=y, **given)
