"""Names that are imported when they are asked for: all of them are there, and no others."""

import subprocess
import sys

import pytest

from revstep.engine.program import samplers
from revstep.engine.spec import grids, schedule

ROOMS = {"samplers": samplers, "grids": grids, "schedule": schedule}


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_every_name_has_its_file_and_is_the_same_each_time(room):
    for name, file in room.FILES.items():
        value = getattr(room, name)
        assert value is getattr(room, name)
        if isinstance(value, type):
            assert value.__module__ == f"{room.__name__}.{file}"
    assert set(room.FILES) <= set(room.__all__)


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_another_name_is_no_attribute(room):
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = room.nonsense


def test_names_and_classes_of_samplers_are_those_of_the_dict():
    assert {n: c.__name__ for n, c in samplers.SAMPLERS.items()} == samplers.NAMES
    assert set(grids.KINDS.values()) | {"GRIDS"} <= set(grids.FILES)
    for kind in grids.KINDS:
        assert grids.grid_class(kind).kind == kind
    for kind in schedule.KINDS:
        assert schedule.schedule_class(kind).kind == kind


def test_a_sampler_that_a_user_adds_has_its_name():
    code = """
import revstep
from revstep.engine.program.samplers import is_named, make_sampler
from revstep.samplers import DDIM, SAMPLERS
class Mine(DDIM): pass
class Other(revstep.samplers.BaseSampler):
    def __call__(self, run): return run.x
SAMPLERS["mine"] = Mine
assert type(make_sampler("mine")) is Mine
assert is_named(Mine()) and is_named(DDIM()) and not is_named(Other()), "by class, not by name"
try: make_sampler("other")
except ValueError as error: assert "mine" in str(error), error
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
