"""``CudaOptions``: how an engine runs on a GPU."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict

from revstep.engine.bundle.layout import KERNEL_CHOICES
from revstep.engine.checks import (
    check_bool,
    check_one_of,
    check_sequence,
    check_type,
    check_whole,
)
from revstep.engine.errors import ArgumentTypeError
from revstep.engine.nearest import unknown_names
from revstep.engine.runtime.buckets import MAX_PROGRAM_ROWS

if TYPE_CHECKING:
    from revstep.engine.engine import Engine


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
            check_bool(getattr(self, name), name)
        check_one_of(self.kernels, "kernels", KERNEL_CHOICES)
        check_whole(self.max_program_rows, "max_program_rows", 3, 2**31 - 1)
        for length in check_sequence(self.unroll, "unroll", "run lengths, such as (20,)"):
            check_whole(length, "unroll", 1)
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
        text = unknown_names(f"{name} has no argument", others, allowed)
        raise ArgumentTypeError(text, min(others))
    if cuda is not None:
        check_type(cuda, "cuda", CudaOptions, "a revstep.CudaOptions")
    if not older:
        return cuda or CudaOptions()
    options = ", ".join(f"{option}=" for option in older)
    if cuda is not None:
        text = f"{options} beside cuda=: give all of them in cuda=CudaOptions(...)"
        raise ArgumentTypeError(text, "cuda")
    warnings.warn(
        f"{name}(..., {options}) is now {name}(..., cuda=revstep.CudaOptions({options}))",
        DeprecationWarning,
        stacklevel=3,
    )
    return CudaOptions(**older)
