"""The adapters, by the name of their class in diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from revstep.engine.errors import ExportError
from revstep.export.sources.diffusers.adapter import FACTORY, Adapter
from revstep.export.sources.diffusers.any_flow import AnyFlow
from revstep.export.sources.diffusers.dit import DiT
from revstep.export.sources.diffusers.flux import Flux
from revstep.export.sources.diffusers.pixart import PixArt
from revstep.export.sources.diffusers.sana import Sana
from revstep.export.sources.diffusers.sd3 import SD3
from revstep.export.sources.diffusers.unet_1d import UNet1D
from revstep.export.sources.diffusers.unet_2d import UNet2D
from revstep.export.sources.diffusers.unet_2d_condition import UNet2DCondition
from revstep.export.sources.diffusers.wan import Wan

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        UNet2D(), UNet2DCondition(), DiT(), PixArt(), SD3(), Flux(), Sana(), UNet1D(), Wan(),
        AnyFlow(),
    )
}  # fmt: skip

LEGACY = "Transformer2DModel"
"""The class whose name the configs of DiT and PixArt-alpha still have."""
OF_LEGACY = {"ada_norm_zero": DiT.name, "ada_norm_single": PixArt.name}


def adapter_for(where: Path, config: Mapping[str, Any]) -> tuple[Adapter, str | None]:
    """(the adapter of a config, the class that wrote it where that is another).

    Raises:
        ExportError: There is no adapter for its class.
    """
    name = config.get("_class_name")
    legacy = LEGACY if name == LEGACY else None
    if legacy is not None:
        name = OF_LEGACY.get(str(config.get("norm_type")), LEGACY)
    if name not in ADAPTERS:
        raise ExportError(
            f"{where} is of class {name!r}; carried are {', '.join(ADAPTERS)}; {FACTORY}"
        )
    return ADAPTERS[name], legacy
