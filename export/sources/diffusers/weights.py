"""Networks from their folders: safetensors only, and all of them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError

if TYPE_CHECKING:
    import torch

WEIGHTS = "diffusion_pytorch_model"
REPORTED = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
SAVED = "model.save_pretrained(folder, safe_serialization=True)"


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """The weight files of a folder.

    Attributes:
        folder: The folder.
        first: The first of them, for errors.
        variant: ``fp16`` where there are no full ones, as ``from_pretrained`` takes it.
    """

    folder: Path
    first: Path
    variant: str | None

    @classmethod
    def find(
        cls, folder: Path, stem: str, *, library: str, name: str, saved: str = SAVED
    ) -> Weights:
        """The safetensors of that stem; ``*.fp16.safetensors`` where there are no others.

        Args:
            folder: The folder.
            stem: What the files' names begin with.
            library: Whose class the network is, for the command that converts a pickle.
            name: The class.
            saved: How the library writes safetensors.

        Raises:
            ExportError: There are none.
        """
        full, half = (sorted(folder.glob(f"{stem}{v}*.safetensors*")) for v in ("", ".fp16"))
        full = [f for f in full if f not in half]
        if not full and not half:
            raise ExportError(_missing(folder, stem, library, name, saved))
        return cls(folder, (full or half)[0], None if full else "fp16")

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Names the file where its library can't load it."""
        try:
            yield
        except Exception as error:  # safetensors and its users raise many kinds for a damaged file
            raise ExportError(
                f"{self.first} can't be loaded: {type(error).__name__}: {error}"
            ) from error

    def check(self, report: Mapping[str, Sequence[object]], kinds: Sequence[str]) -> None:
        """Refuses files that don't fit the config, by the library's own report.

        Raises:
            ExportError: Which weights.
        """
        for kind in kinds:
            if report[kind]:
                keys = ", ".join(sorted(map(str, report[kind]))[:3])
                raise ExportError(
                    f"{self.first} does not fit {self.folder / 'config.json'}: "
                    f"{len(report[kind])} {kind.replace('_', ' ')} ({keys}, ...)"
                )


def load_network(folder: Path, name: str) -> torch.nn.Module:
    """The network of the class of that name, float32, in eval mode.

    Raises:
        ExportError: There are no safetensors, or they don't fit the config.
    """
    import diffusers
    import torch

    weights = Weights.find(folder, WEIGHTS, library="diffusers", name=name)
    cls: Any = getattr(diffusers, name)
    # all of it is float32, and a class that says which parts stay so would need accelerate
    loaded: Any = type(name, (cls,), {"_keep_in_fp32_modules": None})
    with weights.loading():
        network, report = loaded.from_pretrained(
            str(folder), variant=weights.variant, use_safetensors=True,
            torch_dtype=torch.float32, low_cpu_mem_usage=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    weights.check(report, REPORTED)
    network.__class__ = cls
    found: torch.nn.Module = network.eval()
    return found


def _missing(folder: Path, stem: str, library: str, name: str, saved: str) -> str:
    """What is missing, and what makes it."""
    text = f"{folder} has no {stem}.safetensors"
    if not (pickled := sorted(p.name for p in folder.glob("*.bin"))):
        return f"{text}; save it with {saved}, or download it"
    variant = ', variant="fp16"' if all(".fp16." in p for p in pickled) else ""
    return (
        f"{text}; {', '.join(pickled)} is pickled, which can run code and is not read. Where you "
        f"trust it, convert it: python -c 'from {library} import {name} as M; "
        f'M.from_pretrained("{folder}", use_safetensors=False{variant})'
        f'.save_pretrained("{folder}"{variant})\''
    )
