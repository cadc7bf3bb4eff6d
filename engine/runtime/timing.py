"""Where the time of a run goes."""

from __future__ import annotations

import dataclasses

__all__ = ["Timing"]


@dataclasses.dataclass(slots=True)
class Timing:
    """Where the time of a run goes, in nanoseconds; one entry a step."""

    network_ns: list[int] = dataclasses.field(default_factory=list)
    outside_ns: list[int] = dataclasses.field(default_factory=list)
