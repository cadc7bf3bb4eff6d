"""An unknown name is answered with the nearest that exists."""

import pytest
from specs import spec_of

import revstep
from revstep.engine.nearest import nearest, unknown, unknown_names
from revstep.engine.program.samplers import SAMPLERS, make_sampler
from revstep.engine.spec.grids import GRIDS


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("ddin", "ddim"),
        ("DDIM", "ddim"),
        ("DPM++ 2M", "dpmpp_2m"),
        ("dpm++_2m_sde", "dpmpp_2m_sde"),
        ("euler a", "euler"),
        ("euler-ancestral", "euler_ancestral"),
        ("DDIMScheduler", "ddim"),
        ("Uni_PC", "unipc"),
        ("abacus", None),
        ("", None),
        (3, None),
        (None, None),
        ({}, None),
    ],
)
def test_the_nearest_sampler_is_what_the_caller_meant_or_none(given, want):
    assert nearest(given, SAMPLERS) == want


@pytest.mark.parametrize(
    ("given", "allowed", "want"),
    [
        ("gpu", ("auto", "cpu", "cuda"), "cuda"),
        ("ort", ("onnxruntime", "tensorrt"), "onnxruntime"),
        ("float16", ("fp32", "fp16", "bf16"), "fp16"),
        ("half", SAMPLERS, None),
    ],
)
def test_names_of_other_libraries_are_known(given, allowed, want):
    assert nearest(given, allowed) == want


def test_a_name_that_exists_is_its_own_nearest():
    assert all(nearest(name, SAMPLERS) == name for name in SAMPLERS)
    assert all(nearest(name, GRIDS) == name for name in GRIDS)


def test_the_suggestion_comes_before_a_long_list():
    assert unknown("sampler", "ddin", ("ddim", "lms")) == (
        "unknown sampler 'ddin'; did you mean 'ddim'? allowed: ddim, lms"
    )
    assert unknown("sampler", "abacus", ("ddim",)) == "unknown sampler 'abacus'; allowed: ddim"
    assert unknown_names("no option", {"ita", "seed"}, ("eta",)) == (
        "no option ita, seed; did you mean 'eta'? allowed: eta"
    )
    assert unknown_names("no option", ["ita"], ()) == "no option ita; allowed: none"


def vp(**fields):
    return revstep.schedules.VPSchedule(**fields)


def spec(**fields):
    return spec_of(**{"shape": (4,)} | fields)


@pytest.mark.parametrize(
    ("mistake", "near"),
    [
        (lambda: make_sampler("dpmpp2m"), "dpmpp_2m"),
        (lambda: make_sampler("ddim", etta=0.5), "eta"),
        (lambda: spec(grid="karas"), "karras"),
        (lambda: spec(prediction="eps"), "epsilon"),
        (lambda: spec(prediction="V"), None),
        (lambda: vp(betas="squaredcos"), "squaredcos_cap_v2"),
        (lambda: revstep.schedules.VESchedule(levels="geometrical"), "geometric"),
        (lambda: revstep.TimeInput(kind="logsigma"), "log_sigma"),
    ],
)
def test_every_unknown_name_is_told_the_nearest(mistake, near):
    with pytest.raises(ValueError, match="allowed: ") as caught:
        mistake()
    said = f"did you mean {near!r}?"
    assert (said in str(caught.value)) == (near is not None), str(caught.value)


def test_a_conditions_name_is_told_the_nearest(policy_bundle):
    engine = revstep.load(policy_bundle, device="cpu")
    with pytest.raises(ValueError, match="observatoin; did you mean 'observation'"):
        engine.sample(1, conditions={"observatoin": [0, 0, 0, 0]})


def test_an_unknown_backend_is_told_the_nearest(policy_bundle):
    with pytest.raises(ValueError, match=r"unknown backend 'onnx'; did you mean 'onnxruntime'\?"):
        revstep.load(policy_bundle, backend="onnx")
