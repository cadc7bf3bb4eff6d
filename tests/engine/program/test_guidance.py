import dataclasses

import pytest
from specs import spec_of

from revstep import DenoiserSpec, TimeInput
from revstep.engine.program.guidance import (
    GuidanceInterval,
    check_guidance_weight,
    guidance_weight,
)
from revstep.engine.program.points import Point
from revstep.engine.program.reductions import refuse_unknown
from revstep.engine.program.steps import steps_over
from revstep.errors import ProgramError
from revstep.schedules import FlowSchedule

VP = spec_of(shape=(2,))


def weights(spec, weight, grid="trailing", steps=50):
    return [(now, guidance_weight(weight, now)) for now, _ in steps_over(spec, steps, grid)]


def test_an_interval_of_noise_levels_is_open_below_and_closed_above():
    """Kynkäänniemi et al. 2024: guidance where sigma_lo < sigma <= sigma_hi, w = 1 elsewhere."""
    found = weights(VP, GuidanceInterval(lo=0.3, hi=5.0))
    for at, w in found:
        sigma = at.sigma / at.alpha
        assert w == (1.0 if 0.3 < sigma <= 5.0 else 0.0)
    assert {w for _, w in found} == {0.0, 1.0}
    at = Point(1.0, 1.0, 1.0, 2.0, index=3.0, level=2.0)
    assert GuidanceInterval(lo=2.0)(at) == 0.0
    assert GuidanceInterval(hi=2.0)(at) == 1.0


def test_an_interval_of_indices_and_of_a_flows_time():
    found = weights(VP, GuidanceInterval(lo=200, hi=600, unit="index", outside=0.25))
    assert all(w == (1.0 if 200 < at.index <= 600 else 0.25) for at, w in found)
    flow = DenoiserSpec(
        shape=(2,), schedule=FlowSchedule(), prediction="flow", time=TimeInput(kind="unit")
    )
    found = weights(flow, GuidanceInterval(hi=0.5))
    assert all(w == (1.0 if at.t <= 0.5 else 0.0) for at, w in found)


def test_any_function_of_a_point_is_a_weight():
    found = weights(VP, lambda at: at.index / 999)
    assert all(w == at.index / 999 for at, w in found)
    assert {w for _, w in weights(VP, None)} == {1.0}


def test_intervals_are_hashable_and_equal_by_value():
    assert {GuidanceInterval(lo=1.0): 1}[GuidanceInterval(lo=1.0)] == 1
    check_guidance_weight(GuidanceInterval())
    check_guidance_weight(len)
    check_guidance_weight(None)


@dataclasses.dataclass
class Unhashable:
    scale: float = 1.0

    def __call__(self, at):
        return self.scale


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (0.5, "must be a function of a Point"),
        (GuidanceInterval, "must be a function of a Point"),
        (Unhashable(), "must be hashable"),
    ],
)
def test_what_is_no_weight_is_refused(weight, message):
    with pytest.raises(TypeError, match=message):
        check_guidance_weight(weight)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "gave None at time 999; it gives one number"),
        ([1, 2], TypeError, "gives one number"),
        (float("nan"), ValueError, "gave nan at time 999; it must be finite"),
    ],
)
def test_a_weight_that_gives_no_number_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        weights(VP, lambda at: value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GuidanceInterval(lo=5.0, hi=1.0), ValueError, "lo < hi; got 5 and 1"),
        (lambda: GuidanceInterval(unit="t"), ValueError, "allowed: sigma, index"),
        (lambda: GuidanceInterval(lo="1"), TypeError, "lo must be a number"),
        (lambda: GuidanceInterval(inside=None), TypeError, "inside must be a number"),
        (lambda: GuidanceInterval(outside=float("inf")), ValueError, "outside must be finite"),
    ],
)
def test_bad_intervals_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_rescale": 0.7}, "guidance_rescale=0.7 is refused: .*standard deviation.*Guid"),
        ({"use_cfg_zero_star": True}, "scalar product over the whole sample.*GuidanceInterval"),
        ({"adaptive_projected_guidance": 15.0}, "norm of the whole sample's .*GuidanceInterval"),
        ({"thresholding": True}, "thresholding=True is refused: .*percentile.*clip=True"),
    ],
)
def test_what_needs_the_whole_sample_is_refused_with_the_reason(options, message):
    with pytest.raises(ProgramError, match=message):
        refuse_unknown("no option", options, ())


def test_reductions_that_are_off_pass():
    refuse_unknown("no option", {"guidance_rescale": 0.0, "thresholding": False, "eta": 1}, ["eta"])
    refuse_unknown("no option", {"guidance_rescale": None, "thresholding": None}, [])
