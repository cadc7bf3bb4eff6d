"""The second time input: what a network of two times is fed, and which specs are refused."""

import dataclasses
import json

import numpy as np
import pytest
from specs import spec_of

from revstep import Condition, DenoiserSpec, SecondTime, TimeInput, build_program
from revstep.engine.program.points import point, second_time
from revstep.kernels import columns as col
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

FLOW = DenoiserSpec(
    shape=(2,),
    schedule=FlowSchedule(),
    prediction="average_velocity",
    time=TimeInput(kind="unit"),
    second_time=SecondTime(kind="unit"),
    conditions=(Condition(name="label", dtype="int64", classes=3, null=0),),
)


def fed(schedule, second, now, then):
    spec = DenoiserSpec(shape=(2,), schedule=schedule, prediction="sample", second_time=second)
    return second_time(spec, point(spec, now), point(spec, then))


@pytest.mark.parametrize(
    ("kind", "end", "length"),
    [
        ("unit", 0.25, 0.5),
        ("thousand", 250.0, 500.0),
        ("index", 249.0, 500.0),
        ("sigma", 0.25, 0.5),
        ("log_sigma", np.log(0.25) / 4, np.log(3.0) / 4),
    ],
)
def test_a_flow_is_fed_the_end_or_the_length_in_the_unit(kind, end, length):
    step = (0.75, 0.25)
    assert fed(FlowSchedule(), SecondTime(kind=kind), *step) == pytest.approx(end)
    assert fed(FlowSchedule(), SecondTime(kind=kind, of="length"), *step) == pytest.approx(length)


@pytest.mark.parametrize(
    ("schedule", "kind", "clean", "want"),
    [
        (FlowSchedule(), "unit", 0.0, 0.0),
        (FlowSchedule(), "thousand", 0.0, 0.0),
        (FlowSchedule(), "index", 0.0, 0.0),
        (FlowSchedule(), "angle", 0.0, 0.0),
        (FlowSchedule(), "log_sigma", 0.0, np.log(0.001) / 4),
        (VESchedule.edm(), "sigma", 0.0, 0.0),
        (VESchedule.edm(), "log_sigma", 0.0, np.log(0.002) / 4),
        (VPSchedule(), "index", -1.0, 0.0),
        (VPSchedule(), "sigma", -1.0, 0.0),
    ],
)
def test_the_clean_end_is_0_or_what_training_had_nearest(schedule, kind, clean, want):
    now = float(schedule.from_index(500))
    assert fed(schedule, SecondTime(kind=kind), now, clean) == pytest.approx(want, rel=1e-9)


def test_whole_indices_are_rounded_unless_fractions_are_taken():
    schedule = VPSchedule()
    assert fed(schedule, SecondTime(), 700.0, 300.4) == 300.0
    assert fed(schedule, SecondTime(fractions=True), 700.0, 300.4) == pytest.approx(300.4)
    assert fed(schedule, SecondTime(kind="sigma"), 700.0, 300.4) == pytest.approx(
        float(schedule.level(300.4))
    )


def test_the_two_times_have_units_of_their_own():
    spec = dataclasses.replace(FLOW, time=TimeInput(kind="thousand"))
    rows = build_program(spec, "flow_map", 4).rows
    assert rows[:, col.TIME].tolist() == [1000.0, 750.0, 500.0, 250.0, 250.0]
    assert rows[:, col.TIME_2].tolist() == [0.75, 0.5, 0.25, 0.0, 0.0]  # the last: who has ended


def test_rows_of_other_networks_have_no_second_time():
    for name in ("ddim", "heun", "dpmpp_2m_sde"):
        assert not build_program(spec_of(shape=(2,)), name, 10).rows[:, col.TIME_2].any()


def test_inputs_are_in_the_order_of_the_module():
    assert FLOW.input_names == ("sample", "timestep", "r", "label")
    assert dataclasses.replace(FLOW, prediction="flow", second_time=None).input_names == (
        "sample", "timestep", "label",
    )  # fmt: skip


def test_a_spec_survives_json_and_one_of_a_single_time_is_written_as_before():
    spec = dataclasses.replace(
        FLOW, second_time=SecondTime(name="d", kind="thousand", of="length", fractions=True)
    )
    assert DenoiserSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    single = dataclasses.replace(spec, prediction="flow", second_time=None)
    written = single.to_dict()
    assert "second_time" not in written
    assert DenoiserSpec.from_dict(json.loads(json.dumps(written))) == single


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"second_time": None}, "whose end the network must be fed: give the spec's second_time"),
        ({"prediction": "jump", "second_time": None}, "'jump' is over the interval"),
        ({"schedule": VPSchedule()}, "'average_velocity' needs a FlowSchedule.*is 'vp'"),
        ({"second_time": SecondTime(name="timestep")}, "input names must differ"),
        ({"second_time": SecondTime(name="label")}, "input names must differ"),
        ({"second_time": SecondTime(kind="log_snr")}, "'log_snr' can't be fed the last training"),
    ],
)
def test_specs_that_contradict_themselves_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(FLOW, **fields)


def test_a_second_time_of_another_type_is_refused():
    with pytest.raises(TypeError, match="second_time must be a SecondTime or None"):
        dataclasses.replace(FLOW, second_time=TimeInput())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"of": "delta"}, "unknown second time's 'of' 'delta'; allowed: end, length"),
        ({"kind": "logsigma"}, "unknown time kind 'logsigma'; did you mean 'log_sigma'"),
        ({"name": "1r"}, "second time's name"),
    ],
)
def test_a_second_time_that_says_nothing_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        SecondTime(**fields)
