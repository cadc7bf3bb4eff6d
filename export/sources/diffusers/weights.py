"""A diffusers network from its folder: safetensors only, and all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError

if TYPE_CHECKING:
    import torch

WEIGHTS = "diffusion_pytorch_model"
REPORTED = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")


def load_network(folder: Path, name: str) -> torch.nn.Module:
    """The network of the class of that name, float32, in eval mode.

    fp16 weights (``*.fp16.safetensors``) are found where there are no full ones.

    Raises:
        ExportError: There are no safetensors, or they don't fit the config.
    """
    import diffusers
    import torch

    full, half = (sorted(folder.glob(f"{WEIGHTS}{v}*.safetensors*")) for v in ("", ".fp16"))
    full = [f for f in full if f not in half]
    if not full and not half:
        raise ExportError(_missing(folder, name))
    first = (full or half)[0]
    cls: Any = getattr(diffusers, name)
    # all of it is float32, and a class that says which parts stay so would need accelerate
    loaded: Any = type(name, (cls,), {"_keep_in_fp32_modules": None})
    try:
        network, report = loaded.from_pretrained(
            str(folder), variant=None if full else "fp16", use_safetensors=True,
            torch_dtype=torch.float32, low_cpu_mem_usage=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # safetensors and diffusers raise many kinds for a damaged file
        raise ExportError(f"{first} can't be loaded: {type(error).__name__}: {error}") from error
    for kind in REPORTED:
        if report[kind]:
            keys = ", ".join(map(str, report[kind][:3]))
            raise ExportError(
                f"{first} does not fit {folder / 'config.json'}: "
                f"{len(report[kind])} {kind.replace('_', ' ')} ({keys}, ...)"
            )
    network.__class__ = cls
    found: torch.nn.Module = network.eval()
    return found


def _missing(folder: Path, name: str) -> str:
    """What is missing, and what makes it."""
    text = f"{folder} has no {WEIGHTS}.safetensors"
    if not (pickled := sorted(p.name for p in folder.glob("*.bin"))):
        return (
            f"{text}; save it with model.save_pretrained(folder, safe_serialization=True), or "
            "download it"
        )
    variant = ', variant="fp16"' if all(".fp16." in p for p in pickled) else ""
    return (
        f"{text}; {', '.join(pickled)} is pickled, which can run code and is not read. Where you "
        f"trust it, convert it: python -c 'from diffusers import {name} as M; "
        f'M.from_pretrained("{folder}", use_safetensors=False{variant})'
        f'.save_pretrained("{folder}"{variant})\''
    )
