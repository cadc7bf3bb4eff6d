"""What tracing costs, in calls of Python functions: the same on every machine."""

import logging
import sys

import pytest
from specs import spec_of

from revstep import SecondTime, TimeInput
from revstep.engine.program.table import build_program
from revstep.samplers import SAMPLERS
from revstep.schedules import FlowSchedule

NAMES = [name for name in SAMPLERS if name not in ("lcm", "tcd")]  # they have steps of their own


def _calls(name, steps):
    """Function calls of tracing a sampler, C's among them, for each network call."""
    flow = name.startswith("flow_")
    process = {"schedule": FlowSchedule(), "prediction": "flow"} if flow else {}
    time = TimeInput(kind="unit" if flow else "index", fractions=True)
    if name == "flow_map":
        process["second_time"] = SecondTime(kind="unit")
    spec = spec_of(shape=(4,), time=time, value_range=(-1.0, 1.0), clip=True, **process)
    build_program(spec, name, 3)  # what is made once
    count = 0

    def event(_frame, kind, _argument):
        nonlocal count
        count += kind in ("call", "c_call")

    sys.setprofile(event)
    try:
        program = build_program(spec, name, steps)
    finally:
        sys.setprofile(None)
    return count / program.length


@pytest.mark.parametrize("name", NAMES)
def test_tracing_grows_with_the_network_calls_and_no_faster(name, caplog):
    caplog.set_level(logging.ERROR)
    assert _calls(name, 120) < 1.1 * _calls(name, 60)


@pytest.mark.parametrize(
    ("name", "most"), [("ddim", 260), ("heun", 350), ("dpmpp_3m", 750), ("unipc", 1400)]
)
def test_a_row_is_traced_in_few_calls(name, most, caplog):
    """Once they were 2 to 4 times as many, numpy's on seven numbers among them."""
    caplog.set_level(logging.ERROR)
    assert _calls(name, 120) <= most
