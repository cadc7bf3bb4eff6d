"""``Checkpoint``: all that a bundle is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from revstep.engine.checks import check_mapping, check_type
from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import DenoiserSpec

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A denoiser with the networks around it: what a factory may return, and a folder holds.

    Attributes:
        module: The denoiser, as ``export_module`` takes it.
        spec: Its spec, with the parts that are here.
        decoder: Latents (B, *spec.shape) to pictures (B, *spec.decoder.shape).
        encoders: By ``Encoder.name``: takes the encoder's inputs in their order, (B, *shape) each;
            returns the tensor of its one condition, or a tuple of tensors, (B, *shape) each.
        picture_encoder: Pictures (B, *spec.picture_encoder.shape) to latents (B, *spec.shape),
            without scale and shift.
        files: By ``Tokenizer.file``: the file to copy into the bundle.
    """

    module: torch.nn.Module
    spec: DenoiserSpec
    decoder: torch.nn.Module | None = None
    encoders: Mapping[str, torch.nn.Module] = dataclasses.field(default_factory=dict)
    picture_encoder: torch.nn.Module | None = None
    files: Mapping[str, str | Path] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        """Refuses what isn't of the type that it should be, and parts that the spec doesn't name.

        Raises:
            TypeError: No module, or no spec.
            ExportError: A part without its description, a description without its part, or a
                tokenizer's file that isn't there.
        """
        from revstep.export.module.checks import check_kind

        check_kind(self.module, "the module")
        check_type(self.spec, "spec", DenoiserSpec, "a DenoiserSpec")
        for what, module in (("decoder", self.decoder), ("picture encoder", self.picture_encoder)):
            if module is not None:
                check_kind(module, f"the {what}")
        if (self.picture_encoder is None) != (self.spec.picture_encoder is None):
            have = "the spec describes a picture encoder but no such module was given"
            if self.spec.picture_encoder is None:
                have = "a picture encoder was given but spec.picture_encoder is None"
            raise ExportError(f"{have}; give both or neither")
        for name, module in check_mapping(self.encoders, "encoders", "{'text': module}").items():
            check_kind(module, f"the encoder {name!r}")
        wanted = {e.name for e in self.spec.encoders}
        _check_same("encoders", "module", set(self.encoders), wanted)
        files = {t.file for e in self.spec.encoders for t in e.tokenizers}
        check_mapping(self.files, "files", "{'tokenizer.json': path}")
        _check_same("files", "tokenizer's file", set(self.files), files)
        for name, path in self.files.items():
            if not Path(path).is_file():
                raise ExportError(f"the tokenizer's file {name} is to be {path}, which is no file")


def _check_same(argument: str, what: str, given: set[str], wanted: set[str]) -> None:
    if missing := sorted(wanted - given):
        raise ExportError(
            f"the spec's encoders need the {what} {', '.join(missing)}: pass "
            f"{argument}={{{missing[0]!r}: ...}}"
        )
    if others := sorted(given - wanted):
        raise ExportError(
            f"{argument} has {', '.join(others)}, which no encoder of the spec names; "
            f"it names: {', '.join(sorted(wanted)) or 'none'}"
        )
