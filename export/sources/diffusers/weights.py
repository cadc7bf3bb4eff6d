"""Networks from their folders: safetensors only, and all of them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError

if TYPE_CHECKING:
    import torch

WEIGHTS = "diffusion_pytorch_model"
REPORTED = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
HALF = "fp16"
SAVED = "model.save_pretrained(folder, safe_serialization=True)"


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """The weight files of a folder.

    Attributes:
        folder: The folder.
        first: The file that is loaded, or the index of several, for errors.
        variant: ``fp16`` where there are no full ones, as ``from_pretrained`` takes it.
        library: Whose class the network is.
    """

    folder: Path
    first: Path
    variant: str | None
    library: str

    @classmethod
    def find(
        cls, folder: Path, stem: str, *, library: str, name: str, saved: str = SAVED
    ) -> Weights:
        """The safetensors of that stem; those of the variant fp16 where there are no others.

        Args:
            folder: The folder.
            stem: What the files' names begin with.
            library: Whose class the network is, for the command that converts a pickle.
            name: The class.
            saved: How the library writes safetensors.

        Raises:
            ExportError: There are none.
        """
        index = f"{stem}.safetensors.index"
        for variant, names in (
            (None, (f"{stem}.safetensors", f"{index}.json")),
            (HALF, (f"{stem}.{HALF}.safetensors", f"{index}.{HALF}.json")),
        ):
            if found := [folder / n for n in names if (folder / n).is_file()]:
                return cls(folder, found[0], variant, library)
        raise ExportError(_missing(folder, stem, library, name, saved))

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Names the file where its library can't load it; its bars, which break ours, are off."""
        bars: Any = importlib.import_module(f"{self.library}.utils").logging
        before = bars.is_progress_bar_enabled()
        bars.disable_progress_bar()
        try:
            yield
        except Exception as error:  # safetensors and its users raise many kinds for a damaged file
            raise ExportError(
                f"{self.first} can't be loaded: {type(error).__name__}: {error}"
            ) from error
        finally:
            if before:
                bars.enable_progress_bar()

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
    if others := sorted(p.name for p in folder.glob("*.safetensors")):
        return (
            f"{text}, and what it has is named otherwise: {', '.join(others)}; where that is the "
            f"whole network, rename it to {stem}.safetensors, else save it with {saved}"
        )
    if not (pickled := sorted(p.name for p in folder.glob("*.bin"))):
        return f"{text}; save it with {saved}, or download it"
    variant = f', variant="{HALF}"' if all(f".{HALF}." in p for p in pickled) else ""
    return (
        f"{text}; {', '.join(pickled)} is pickled, which can run code and is not read. Where you "
        f"trust it, convert it: python -c 'from {library} import {name} as M; "
        f'M.from_pretrained("{folder}", use_safetensors=False{variant})'
        f'.save_pretrained("{folder}"{variant})\''
    )
