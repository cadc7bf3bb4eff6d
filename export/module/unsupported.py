"""What a graph can't hold of a module: quantised weights, autocast, nested tensors."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch

from revstep.engine.errors import ExportError
from revstep.export.module.line import line_of_stack

PACKAGES = ("torchao", "bitsandbytes", "optimum.quanto", "quanto", "compressed_tensors", "hqq")
QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
FIX = (
    "quantised weights belong to one runtime, so a bundle is made of the network before it was "
    "quantised: load its checkpoint in float32, float16 or bfloat16 (or dequantise it), and let "
    "the export reduce the precision (precisions=...)"
)


def check_weight_types(module: torch.nn.Module, what: str = "the module") -> None:
    """Refuses fp8 and quantised weights, by name.

    Raises:
        ExportError: Naming the part or tensor, and how to fix it.
    """
    for name, part in module.named_modules():
        kind = type(part).__module__
        if kind.startswith(QUANTISED) or _of_package(kind):
            raise ExportError(
                f"{what}'s part {name or 'itself'!r} is a {type(part).__qualname__} of {kind}: "
                f"{FIX}"
            )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if found := _quantised(tensor):
            raise ExportError(f"{what}'s tensor {name!r} is {found}: {FIX}")


def _quantised(tensor: torch.Tensor) -> str | None:
    if tensor.is_quantized or "float8" in str(tensor.dtype) or "float4" in str(tensor.dtype):
        return str(tensor.dtype)
    kinds = {type(tensor), type(tensor.data)}
    foreign = [k for k in kinds if _of_package(k.__module__)]
    return f"a {foreign[0].__qualname__} of {foreign[0].__module__}" if foreign else None


def _of_package(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in PACKAGES)


def check_surroundings() -> None:
    """Refuses an autocast that the caller has left on: it would change the network in silence.

    Raises:
        ExportError: It is on.
    """
    kinds = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for kind in kinds:
        if torch.is_autocast_enabled(kind):
            raise ExportError(
                f"torch.autocast({kind!r}) is on around the export, so the module would not "
                "compute in its own precision: export outside of it (precisions=... reduces the "
                "precision)"
            )


@contextlib.contextmanager
def no_autocast(device: torch.device) -> Iterator[None]:
    """Refuses a module that enters autocast for ``device`` while this is open.

    Raises:
        ExportError: At the end, with the line of the module.
    """
    entered: list[str] = []
    mine, kind = threading.get_ident(), torch.amp.autocast_mode.autocast
    enter: Callable[[Any], Any] = kind.__enter__

    def watched(self: Any) -> Any:
        if threading.get_ident() == mine and self._enabled and self.device == device.type:
            stack = line_of_stack("".join(traceback.format_stack()[:-1]))
            entered.append(f"{str(self.fast_dtype).removeprefix('torch.')}{stack}")
        return enter(self)

    kind.__enter__ = watched  # type: ignore[method-assign]
    try:
        yield
    except ExportError:  # autocast explains what it leads to
        if not entered:
            raise
    finally:
        kind.__enter__ = enter  # type: ignore[method-assign]
    if entered:
        raise ExportError(
            f"the module's forward enters torch.autocast to {entered[0]}, which a graph would "
            "fix in every precision: take it out, or give it enabled=False, and let the export "
            "reduce the precision (precisions=...)"
        )


@contextlib.contextmanager
def naming_nested(module: torch.nn.Module) -> Iterator[None]:
    """Says of a failed check that an ``nn.TransformerEncoder`` of the module may be its cause.

    In eval mode, where every row of a batch has its padding at the end, it computes on nested
    tensors: padded positions become 0, and a row without any other fails.
    """
    try:
        yield
    except ExportError as error:
        encoders = [
            name.removeprefix("module.")
            for name, part in module.named_modules()
            if isinstance(part, torch.nn.TransformerEncoder)
            and getattr(part, "use_nested_tensor", False)
        ]
        if not encoders:
            raise
        stop = "" if str(error).endswith("?") else "."
        raise ExportError(
            f"{error}{stop} The nn.TransformerEncoder {encoders[0]!r} sets padded positions to 0 "
            "in eval mode, if a whole batch has its padding at the end, and else computes them as "
            "in training; a graph has one way: if it is given a src_key_padding_mask, set its "
            "use_nested_tensor = False, or make it with enable_nested_tensor=False"
        ) from error
