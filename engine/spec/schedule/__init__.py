"""Noise schedules: ``x_t = alpha_t x0 + sigma_t eps``, with ``(alpha, sigma)`` in float64.

Each schedule has its own *natural time* ``t``, running from noise to data:

=================  =============================  ====================================
schedule           natural time                   (alpha, sigma)
=================  =============================  ====================================
``vp``             training index, 0 to T - 1     (sqrt(abar_t), sqrt(1 - abar_t))
``vp_continuous``  t in [0, 1]                    (sqrt(abar(t)), sqrt(1 - abar(t)))
``ve``             sigma itself                   (1, t)
``flow``           t in [0, 1]                    (1 - t, t)
``trigflow``       t in [0, pi/2]                 (cos t, sigma_data sin t)
=================  =============================  ====================================

The clean end (alpha = 1, sigma = 0) is ``schedule.clean``: index -1, sigma 0, t = 0. EDM is the
``ve`` schedule of ``VESchedule.edm()`` with the ``edm`` prediction.

References: Ho et al. 2020 (VP, eq. 4); Nichol & Dhariwal 2021 (squared cosine, eq. 17); Lin et al.
2023 (zero terminal SNR, algorithm 1); Song et al. 2021 (VE); Karras et al. 2022 (EDM); Lipman et
al. 2023 (flow); Lu & Song 2024 (TrigFlow).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from revstep.engine import later
from revstep.engine.checks import check_one_of
from revstep.engine.spec.fields import fields_from
from revstep.engine.spec.schedule.base import Schedule

if TYPE_CHECKING:  # the same names as FILES
    from revstep.engine.spec.schedule.continuous import ContinuousVPSchedule as ContinuousVPSchedule
    from revstep.engine.spec.schedule.flow import FlowSchedule as FlowSchedule
    from revstep.engine.spec.schedule.trigflow import TrigFlowSchedule as TrigFlowSchedule
    from revstep.engine.spec.schedule.ve import VESchedule as VESchedule
    from revstep.engine.spec.schedule.vp import NearlyZeroSNR as NearlyZeroSNR
    from revstep.engine.spec.schedule.vp import VPSchedule as VPSchedule

__all__ = [
    "ContinuousVPSchedule",
    "FlowSchedule",
    "NearlyZeroSNR",
    "Schedule",
    "TrigFlowSchedule",
    "VESchedule",
    "VPSchedule",
]

FILES = {  # imported when first asked for
    "ContinuousVPSchedule": "continuous",
    "FlowSchedule": "flow",
    "NearlyZeroSNR": "vp",
    "TrigFlowSchedule": "trigflow",
    "VESchedule": "ve",
    "VPSchedule": "vp",
}

KINDS = {  # of JSON, and their classes
    "vp": "VPSchedule",
    "vp_continuous": "ContinuousVPSchedule",
    "ve": "VESchedule",
    "flow": "FlowSchedule",
    "trigflow": "TrigFlowSchedule",
}

if not TYPE_CHECKING:
    __getattr__ = later.names(__name__, FILES)


def schedule_class(kind: str) -> type[Schedule]:
    """The class of a kind of ``KINDS``."""
    cls: type[Schedule] = getattr(sys.modules[__name__], KINDS[kind])
    return cls


def schedule_from_dict(values: dict[str, Any]) -> Schedule:
    """The schedule that ``Schedule.to_dict`` wrote.

    Raises:
        ValueError: An unknown kind, an unknown or missing field, or a value out of range.
        TypeError: A field of another type.
    """
    fields = dict(values)
    kind = fields.pop("kind", None)
    check_one_of(kind, "schedule", KINDS)
    cls = schedule_class(kind)
    return cls(**fields_from(cls, fields, f"the {kind} schedule"))
