"""Where the PyTorch module of a bundle comes from, which the bundle doesn't hold."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from revstep.engine.errors import ArgumentError
from revstep.engine.spec.denoiser import DenoiserSpec

if TYPE_CHECKING:
    import torch

TEXT, LABELS = "encoder_hidden_states", "class_labels"


@dataclasses.dataclass(frozen=True)
class Source:
    """A factory, or a diffusers folder; the module is loaded when first asked for.

    Attributes:
        spec: The bundle's.
        factory: ``package.module:function``, as ``revstep export`` takes it; or None.
        folder: A diffusers folder; or None.
    """

    spec: DenoiserSpec
    factory: str | None = None
    folder: Path | None = None

    @functools.cached_property
    def module(self) -> torch.nn.Module:
        """The module of (x, t, *conditions).

        Raises:
            ValueError, ExportError: As export; or it is another one than the bundle's.
        """
        module, spec = self._loaded()
        for name in ("shape", "prediction", "learned_variance"):
            if getattr(spec, name) != getattr(self.spec, name):
                raise self._another(name, getattr(spec, name), getattr(self.spec, name))
        taken, wanted = ([(c.name, c.shape) for c in s.conditions] for s in (spec, self.spec))
        if taken != wanted:
            raise self._another("conditions", taken, wanted)
        return module

    def _loaded(self) -> tuple[torch.nn.Module, DenoiserSpec]:
        if self.folder is None:
            from revstep.export.sources.factory import load_factory

            assert self.factory is not None
            module, spec, _ = load_factory(self.factory)
            return module, spec
        from revstep.export.sources.diffusers.folder import load_diffusers
        from revstep.export.sources.diffusers.place import find_place

        place = find_place(self.folder)
        state = self.spec.shape[1:]
        strides = place.strides(len(state))
        first = (1, 0, 0) if len(state) == 3 and place.vae is not None else (0,) * len(state)
        text = [c.shape[0] for c in self.spec.conditions if c.name == TEXT]
        nulls = [c.null for c in self.spec.conditions if c.name == LABELS and c.null is not None]
        return load_diffusers(
            self.folder,
            null_class=int(np.asarray(nulls[0])) if nulls else None,
            size=[f + (n - f) * s for n, f, s in zip(state, first, strides, strict=True)],
            sequence_length=text[0] if text else None,
        )

    def _another(self, what: str, found: object, wanted: object) -> ArgumentError:
        named = self.factory or self.folder
        return ArgumentError(
            f"{named} has {what} {found}, and the bundle {wanted}: name what the bundle was "
            "exported from",
            "module" if self.folder is None else "diffusers",
        )
