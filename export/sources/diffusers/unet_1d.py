"""``UNet1DModel``: plans of actions, and sound."""

from __future__ import annotations

from revstep.export.sources.diffusers.adapter import Adapter, Given


class UNet1D(Adapter):
    """States (channels, length)."""

    name = "UNet1DModel"
    state = "sample"
    axes = 1

    def check(self, given: Given) -> None:
        """Refuses a network that gives one number, a value of the plan."""
        if given.values["out_block_type"] is not None:
            given.refuse("out_block_type", allowed="OutConv1DBlock")
