"""Specs of tests that only need one."""

from revstep import DenoiserSpec
from revstep.schedules import VPSchedule


def spec_of(**fields):
    """The noise predicted, over DDPM's schedule, where ``fields`` don't say otherwise."""
    return DenoiserSpec(**{"schedule": VPSchedule(), "prediction": "epsilon"} | fields)
