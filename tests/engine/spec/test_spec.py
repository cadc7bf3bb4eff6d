import json

import numpy as np
import pytest
from specs import spec_of

from revstep import Condition, Decoder, DenoiserSpec, TimeInput
from revstep.engine.program.steps import steps_over
from revstep.grids import BetaGrid, KarrasGrid, LinspaceGrid, ShiftedGrid, TimeGrid
from revstep.schedules import FlowSchedule, TrigFlowSchedule, VESchedule, VPSchedule


def spec(**fields):
    return spec_of(**{"shape": (3, 8, 8)} | fields)


@pytest.mark.parametrize(
    "given",
    [
        spec(),
        spec(prediction="edm", schedule=VESchedule(), sigma_data=1.2, batch=(2, 7)),
        spec(schedule=FlowSchedule(), prediction="flow", time=TimeInput(kind="unit", name="t")),
        spec(schedule=VPSchedule(steps=3, betas="trained", trained_betas=(0.1, 0.2, 0.3))),
        spec(schedule=VPSchedule(betas="sigmoid"), grid="karras"),
        spec(schedule=VESchedule.from_sigmas([0.1, 1.0, 9.0]), grid=KarrasGrid(rho=5.0)),
        spec(grid=TimeGrid(times=(999, 500, -1)), final="first"),
        spec(grid=BetaGrid(over="index")),
        spec(schedule=FlowSchedule(), prediction="flow", grid=ShiftedGrid(3.0)),
        spec(
            schedule=FlowSchedule(),
            prediction="flow",
            grid=ShiftedGrid(3.0, LinspaceGrid(last=2.5), terminal=0.1),
        ),
        DenoiserSpec.edm((3, 8, 8), sigma_data=0.7, value_range=(-1.0, 1.0)),
        DenoiserSpec.trigflow((3, 8, 8), sigma_data=0.7),
        spec(schedule=VPSchedule(snr_shift=3.0, zero_terminal_snr=True), prediction="edm_v"),
        spec(
            conditions=(
                Condition(name="y", dtype="int64", null=10, classes=11),
                Condition(name="obs", shape=(2, 5)),
            ),
            value_range=(-1.0, 1.0),
            clip=True,
            learned_variance=True,
            decoder=Decoder(shape=(3, 64, 64), scale=0.18215),
        ),
    ],
)
def test_round_trip_through_json(given):
    assert DenoiserSpec.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_a_manifest_of_before_the_grids_still_loads():
    """What version 0.1 wrote, word for word."""
    old = json.loads(
        """{"shape": [3, 8, 8], "schedule": {"kind": "ve", "steps": 1000, "sigma_min": 0.01,
        "sigma_max": 50.0}, "prediction": "epsilon", "name": "sample", "time": {"name": "timestep",
        "kind": "index", "fractions": false}, "conditions": [], "learned_variance": false,
        "training_step": 1.0, "sigma_data": 0.5, "value_range": null, "clip": false,
        "spacing": "trailing", "spacing_offset": 0, "final": "clean", "decoder": null,
        "batch": [1, 64]}"""
    )
    assert DenoiserSpec.from_dict(old) == spec(schedule=VESchedule())
    old["schedule"] = json.loads(
        """{"kind": "vp", "steps": 1000, "betas": "linear", "beta_start": 0.0001,
        "beta_end": 0.02, "zero_terminal_snr": false, "trained_betas": null}"""
    )
    assert DenoiserSpec.from_dict(old) == spec()


def test_an_edm_spec_is_the_papers():
    """Karras et al. 2022, table 1: c_noise = ln(sigma) / 4, sigma from 80 to 0.002, rho 7."""
    edm = DenoiserSpec.edm((3, 8, 8))
    assert (edm.schedule.sigma_min, edm.schedule.sigma_max) == (0.002, 80.0)
    pairs = steps_over(edm, 18)
    sigma = np.array([now.sigma for now, _ in pairs])
    want = (80 ** (1 / 7) + np.arange(18) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(sigma, want, rtol=1e-12)
    np.testing.assert_allclose([now.time for now, _ in pairs], np.log(want) / 4, rtol=1e-12)
    assert DenoiserSpec.edm((2,), grid="trailing").grid == "trailing"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"kind": "wide"}, ValueError, "unknown kind of grid 'wide'; allowed: trailing"),
        ({"kind": "karras", "rh0": 3}, ValueError, "unknown field of the karras grid: rh0"),
        ({"kind": "karras", "rho": "a"}, TypeError, "rho must be a number"),
        (
            {"kind": "shifted", "shift": 3, "terminal": None, "spacing": {"kind": "x"}},
            ValueError,
            "grid .x.",
        ),
        ({"kind": "shifted"}, ValueError, "the shifted grid lacks shift, spacing, terminal"),
        (7, TypeError, "spacing must be a text or an object; got int 7"),
        ("even", ValueError, "unknown grid 'even'"),
    ],
)
def test_a_bad_grid_in_a_manifest_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        DenoiserSpec.from_dict({**spec().to_dict(), "spacing": value})


def test_learned_variance_doubles_the_channels():
    assert spec(learned_variance=True).output_shape == (6, 8, 8)
    assert spec().output_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": ()}, "sample shape"),
        ({"shape": (3, 0)}, "positive whole numbers"),
        ({"prediction": "noise"}, "allowed: epsilon"),
        (
            {"prediction": "edm_v", "schedule": TrigFlowSchedule(sigma_data=0.7)},
            "sigma_data=0.5 and its TrigFlowSchedule 0.7",
        ),
        ({"clip": True}, "needs a value_range"),
        ({"value_range": (1.0, -1.0)}, "lo < hi"),
        ({"batch": (4, 2)}, "min <= max"),
        ({"batch": (0, 2)}, "min <= max"),
        ({"grid": "even"}, "allowed: trailing"),
        ({"name": "timestep"}, "must differ"),
        ({"conditions": (Condition(name="sample"),)}, "must differ"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        spec(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "1x"}, "letters, digits"),
        ({"name": "c", "dtype": "float64"}, "allowed: bool, int32, int64"),
        ({"name": "c", "null": float("nan")}, "non-finite null"),
        ({"name": "c", "classes": 3}, "dtype is int64"),
        (
            {"name": "c", "dtype": "int64", "classes": 3, "null": 3},
            "null value holds 3; allowed: 0 to 2",
        ),
    ],
)
def test_bad_conditions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Condition(**fields)


def test_unknown_and_missing_fields_are_named():
    values = spec().to_dict()
    with pytest.raises(ValueError, match="unknown field of the spec: colour"):
        DenoiserSpec.from_dict({**values, "colour": 1})
    del values["schedule"]
    with pytest.raises(ValueError, match="the spec lacks schedule"):
        DenoiserSpec.from_dict(values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grid_offset": "a"}, "grid_offset must be a whole number; got str 'a'"),
        ({"grid_offset": 0.5}, "grid_offset must be a whole number"),
        ({"conditions": Condition(name="y")}, "conditions must be a tuple.*with a comma"),
        ({"conditions": (1,)}, "conditions must be a tuple of Condition.*got int 1"),
        ({"shape": 3}, r"shape must be a tuple.*\(3, 32, 32\); got int 3"),
        ({"shape": "388"}, "shape must be a tuple"),
        ({"batch": 8}, r"batch must be \(min, max\).*got int 8"),
        ({"batch": (1.0, 8.0)}, "batch must be a whole number"),
        ({"value_range": 5}, r"value_range must be \(lo, hi\).*got int 5"),
        ({"value_range": ("a", "b")}, "value_range must be a number; got str 'a'"),
        ({"time": "index"}, r"time must be a TimeInput.*TimeInput\(kind='index'\)"),
        ({"time": None}, "time must be a TimeInput; got None"),
        ({"decoder": (3, 8, 8)}, "decoder must be a Decoder or None"),
        ({"clip": "no"}, "clip must be True or False"),
        ({"learned_variance": 1}, "learned_variance must be True or False"),
        ({"sigma_data": "0.5"}, "sigma_data must be a number"),
        ({"training_step": None}, "training_step must be a number"),
    ],
)
def test_a_field_of_another_type_names_what_is_allowed(fields, message):
    with pytest.raises(TypeError, match=message):
        spec(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": 4}, "'y''s shape must be a tuple"),
        ({"null": "none"}, "'y''s null value must be a number"),
        ({"dtype": "int64", "classes": "10"}, "'y''s classes must be a whole number"),
    ],
)
def test_a_conditions_field_of_another_type_is_named(fields, message):
    with pytest.raises(TypeError, match=message):
        Condition(name="y", **fields)


def test_lists_are_as_good_as_tuples():
    assert spec(shape=[3, 8, 8], batch=[1, 4], conditions=[]) == spec(batch=(1, 4))
