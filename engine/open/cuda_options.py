"""``CudaOptions``: how an engine runs on a GPU."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict

from revstep.engine.bundle.kernels import CHOICES
from revstep.engine.nearest import unknown, unknown_names
from revstep.engine.runtime.arena import MAX_PROGRAM_ROWS

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

__all__ = ["CudaKeywords", "CudaOptions", "cuda_options"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CudaOptions:
    """How an engine runs on a GPU: what ``load`` and ``from_module`` take as ``cuda``.

    On a CPU ``unroll`` and a choice of ``kernels`` are refused; the others say nothing there.

    Attributes:
        graphs: Capture steps in CUDA graphs. A live module that waits for the GPU can't be
            captured; it runs eagerly then, with a warning that names its operator.
        unroll: Run lengths (network calls) that get a graph of the whole run, used where nobody
            watches the steps.
        kernels: What runs the step: ``triton`` (compiled when first used), ``aot`` (what
            ``revstep compile --kernels`` put into the bundle), or ``auto``: the bundle's where
            they run, else Triton.
        warm_up: Prepare all buckets now, not at first use.
        max_program_rows: Rows of sampler tables held at once.
        tf32: Allow TF32 products in a live module's float32 network.

    Raises:
        TypeError: A value of a wrong type.
        ValueError: A value out of range.
    """

    graphs: bool = True
    unroll: Sequence[int] = ()
    kernels: str = "auto"
    warm_up: bool = True
    max_program_rows: int = MAX_PROGRAM_ROWS
    tf32: bool = False

    def __post_init__(self) -> None:
        for name in ("graphs", "warm_up", "tf32"):
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False; got {value!r}")
        if self.kernels not in CHOICES:
            raise ValueError(unknown("kernels", self.kernels, CHOICES))
        rows = self.max_program_rows
        if isinstance(rows, bool) or not isinstance(rows, int) or not 2 < rows < 1 << 31:
            raise ValueError(f"max_program_rows={rows!r} must be a whole number from 3 to 2^31 - 1")
        if isinstance(self.unroll, int):
            example = f"({self.unroll},)"
            raise TypeError(f"unroll is a sequence of run lengths, as {example}; got {self.unroll}")
        for length in self.unroll:
            if isinstance(length, bool) or not isinstance(length, int) or length < 1:
                raise ValueError(f"unroll holds run lengths of at least 1; got {length!r}")
        object.__setattr__(self, "unroll", tuple(self.unroll))


class CudaKeywords(TypedDict, total=False):
    """The options, as ``load`` and ``from_module`` took them before there was ``CudaOptions``."""

    graphs: bool
    unroll: Sequence[int]
    kernels: str
    warm_up: bool
    max_program_rows: int
    tf32: bool


def cuda_options(
    function: Callable[..., Engine], cuda: CudaOptions | None, older: CudaKeywords
) -> CudaOptions:
    """``cuda``, the defaults, or what the older keywords say, with a warning at the user's line.

    Args:
        function: ``load`` or ``from_module``, which calls this directly.
        cuda: Its ``cuda``.
        older: Its other keywords.

    Raises:
        TypeError: No ``CudaOptions``, older keywords beside one, or unknown keywords.
        ValueError: A value out of range.
    """
    name = function.__name__
    if others := set(older) - set(CudaKeywords.__annotations__):
        allowed = function.__kwdefaults__ or ()
        raise TypeError(unknown_names(f"{name}() has no argument", others, allowed))
    if cuda is not None and not isinstance(cuda, CudaOptions):
        raise TypeError(f"cuda must be a revstep.CudaOptions; got {cuda!r}")
    if not older:
        return cuda or CudaOptions()
    given = ", ".join(f"{option}=" for option in older)
    if cuda is not None:
        raise TypeError(f"{given} beside cuda=: give all of them in cuda=CudaOptions(...)")
    warnings.warn(
        f"{name}(..., {given}) is now {name}(..., cuda=revstep.CudaOptions({given}))",
        DeprecationWarning,
        stacklevel=3,
    )
    return CudaOptions(**older)
