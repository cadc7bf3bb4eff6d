"""``spacing``, the time grid's old name, works for this version with one warning at the caller."""

import dataclasses
import inspect
import pickle
import warnings

import numpy as np
import pytest
from networks import NumpyDenoiser

import revstep
from revstep.engine.program.steps import steps_over
from revstep.engine.runtime.runtime import host_runtime
from revstep.engine.spec.grids import KarrasGrid, LinspaceGrid, ShiftedGrid
from revstep.engine.spec.schedule import FlowSchedule, VPSchedule

SPEC = revstep.DenoiserSpec(shape=(2,), schedule=VPSchedule(), prediction="epsilon")
FLOW = dataclasses.replace(SPEC, schedule=FlowSchedule(), prediction="flow")
ENGINE = revstep.Engine(NumpyDenoiser(SPEC, lambda x, t, conditions: 0.1 * x))


def _equal(a, b):
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize(
    "call",
    [
        lambda **grid: ENGINE.sample(2, steps=3, seed=0, **grid).x,
        lambda **grid: ENGINE.invert(np.ones((1, 2), np.float32), steps=3, **grid),
        lambda **grid: revstep.Request(**grid).grid,
        lambda **grid: dataclasses.replace(revstep.Request(grid="leading"), **grid).grid,
        lambda **grid: dataclasses.replace(SPEC, **grid),
        lambda **grid: revstep.DenoiserSpec.edm((2,), **grid),
        lambda **grid: revstep.build_program(SPEC, "ddim", 3, **grid).rows,
        lambda **grid: steps_over(SPEC, 3, **grid),
        lambda **grid: revstep.samplers.DDIM().steps_over(SPEC, 3, compat=None, **grid),
        lambda **grid: revstep.samplers.LCM().steps_over(SPEC, 3, compat=None, **grid),
        lambda **grid: revstep.samplers.IPNDM().steps_over(SPEC, 3, compat=None, **grid),
        lambda **grid: SPEC.grid_of(**grid),
        lambda **grid: ShiftedGrid(3.0, **grid),
    ],
)
def test_the_old_argument_is_the_new_one_with_one_warning(call):
    want = call(grid="linspace")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = call(spacing="linspace")
    assert _equal(got, want)
    (warning,) = caught
    assert (warning.category, str(warning.message)) == (
        DeprecationWarning,
        "spacing is now grid",
    )


@pytest.mark.parametrize(
    ("owner", "old", "value"),
    [
        (revstep.Request(grid="karras"), "spacing", "karras"),
        (dataclasses.replace(SPEC, grid="karras"), "spacing", "karras"),
        (dataclasses.replace(SPEC, grid_offset=3), "spacing_offset", 3),
        (ShiftedGrid(3.0, "linspace"), "spacing", "linspace"),
    ],
)
def test_an_old_field_is_read_with_a_warning_at_the_readers_line(owner, old, value):
    with pytest.warns(DeprecationWarning, match=f"^{old} is now grid") as caught:
        assert getattr(owner, old) == value
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.parametrize(
    "call",
    [
        lambda: revstep.DenoiserSpec(
            shape=(2,), schedule=VPSchedule(), prediction="epsilon", spacing_offset=1
        ),
        lambda: ENGINE.sample(1, steps=1, spacing="trailing"),
    ],
)
def test_the_warning_is_at_the_callers_line(call):
    with pytest.warns(DeprecationWarning, match="is now grid") as caught:
        call()
    assert [w.filename for w in caught] == [__file__]


def test_an_engine_takes_a_runner_by_its_old_name():
    runtime = host_runtime(NumpyDenoiser(SPEC, lambda x, t, conditions: 0.1 * x))
    with pytest.warns(DeprecationWarning, match="^runner is now denoiser$") as caught:
        engine = revstep.Engine(runner=runtime, reproducible=True)
    assert [w.filename for w in caught] == [__file__]
    want = ENGINE.sample(1, steps=2, seed=0).x
    np.testing.assert_array_equal(engine.sample(1, steps=2, seed=0).x, want)


def test_json_has_the_keys_that_it_had():
    spec = dataclasses.replace(FLOW, grid=ShiftedGrid(3.0, LinspaceGrid()), grid_offset=2)
    written = spec.to_dict()
    assert written["spacing"]["spacing"]["kind"] == "linspace"
    assert written["spacing_offset"] == 2
    assert not {"grid", "grid_offset"} & written.keys()
    assert revstep.DenoiserSpec.from_dict(written) == spec


def test_a_pickle_of_the_old_field_is_read():
    old = ShiftedGrid.__new__(ShiftedGrid)
    old.__setstate__({"shift": 3.0, "spacing": "linspace", "terminal": None})
    assert old == ShiftedGrid(3.0, "linspace")
    program = revstep.build_program(SPEC, "heun", 3)
    older = revstep.StepProgram.__new__(revstep.StepProgram)
    state = {("slots" if k == "history" else k): v for k, v in vars(program).items()}
    older.__setstate__(state)
    assert vars(older) == vars(program)
    for value in (old, SPEC, revstep.Request(grid=KarrasGrid(), n=2)):
        again = pickle.loads(pickle.dumps(value))
        assert repr(again) == repr(value)


def test_the_signature_has_the_new_name_alone():
    for function in (revstep.Engine.sample, revstep.build_program, revstep.DenoiserSpec):
        parameters = inspect.signature(function).parameters
        assert "grid" in parameters
        assert "spacing" not in parameters


@pytest.mark.parametrize(("old", "new"), [("Spacing", "Grid"), ("SPACINGS", "GRIDS")])
@pytest.mark.parametrize(
    "place", [revstep, revstep.grids, revstep.engine], ids=lambda module: module.__name__
)
def test_the_old_names_of_the_grids_lead_to_the_new(place, old, new):
    with pytest.warns(DeprecationWarning, match=rf"{old} is now revstep\.grids\.{new}$"):
        assert getattr(place, old) is getattr(revstep.grids, new)


def test_a_grid_of_ones_own_needs_what_it_needed():
    @dataclasses.dataclass(frozen=True)
    class Halves(revstep.grids.Grid):
        kind = "halves"

        def natural_times(self, schedule, time, steps):
            return schedule.from_index((schedule.steps - 1) / 2.0 ** np.arange(steps))

    times = [at.index for at in revstep.build_program(SPEC, "ddim", 3, grid=Halves()).points[:-1]]
    np.testing.assert_allclose(times, [999, 499.5, 249.75], rtol=1e-6)
