"""Where the time of a run goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from revstep.engine.devices.protocol import Device

__all__ = ["Clock", "Timing"]


@dataclasses.dataclass(slots=True)
class Timing:
    """Where the time of a run goes, in nanoseconds; one entry per step."""

    network_ns: list[int] = dataclasses.field(default_factory=list)
    outside_ns: list[int] = dataclasses.field(default_factory=list)


class Clock:
    """Steps with the device's time around each part.

    Args:
        device: Whose time it is.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._steps: list[list[Any]] = []

    def run(self, parts: Sequence[Callable[[], None]]) -> None:
        """Runs the parts of one step: begin, network, step."""
        stamp = self._device.stamp
        begin, network, step = parts
        started = stamp()
        begin()
        called = stamp()
        network()
        returned = stamp()
        step()
        self._steps.append([started, called, returned, stamp()])

    def add_to(self, timing: Timing) -> None:
        """Adds the steps so far."""
        between = self._device.ns_between
        for started, called, returned, ended in self._steps:
            network = between(called, returned)
            timing.network_ns.append(network)
            timing.outside_ns.append(between(started, ended) - network)
