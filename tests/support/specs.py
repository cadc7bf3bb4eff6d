"""Specs of tests that only need one."""

from revstep import DenoiserSpec
from revstep.schedules import VPSchedule


def spec_of(**fields):
    """The noise predicted, over DDPM's schedule, but for ``fields``."""
    return DenoiserSpec(**{"schedule": VPSchedule(), "prediction": "epsilon"} | fields)
