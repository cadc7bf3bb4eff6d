"""Launches of the Triton kernels: the step on a GPU, with the reference's bits.

`TritonStep` mirrors `revstep.kernels.StepKernel`. Its launches read nothing on the host, so they
may be captured in a CUDA graph. The kernels are compiled, loaded and kept once for the buffers:
later launches reuse exactly those and can't meet another specialisation during a capture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from revstep.kernels.buffers import StepBuffers
from revstep.kernels.layout import TORCH

if TYPE_CHECKING:
    from types import ModuleType

    import torch

SMALL_CALLS, LARGE_CALLS = 128, 256  # Philox calls of a block: 4 or 8 elements per thread
BEGIN_SLOTS = 128  # slots of a block of begin_step
WARPS = 4
# More elements per thread share the row's decoding, at twice the registers: for tensors that fill
# every GPU many times over, and while the registers leave room. Estimates, not measured.
LARGE_ELEMENTS = 1 << 22
LARGE_HISTORY = 1
OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": False}  # fusion would change the bits


class Launch(NamedTuple):
    """One kernel's launch over given buffers.

    Attributes:
        arguments: The run-time arguments in the kernel's order.
        constants: Its compile-time constants by name.
        grid: Blocks along the two axes.
    """

    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    grid: tuple[int, int]


def choose_calls(slots: int, elements: int, history: int) -> int:
    """Philox calls (of four elements) of one block of the fused step."""
    large = slots * elements >= LARGE_ELEMENTS and history <= LARGE_HISTORY
    return LARGE_CALLS if large else SMALL_CALLS


def begin_launch(buffers: StepBuffers) -> Launch:
    """The launch of `begin_step` over the buffers."""
    import torch

    b = buffers
    arguments = (
        b.table.view(torch.int64), b.base, b.length, b.counter, b.current, b.cond_row,
        b.uncond_row, b.net_t, b.net_t if b.net_t2 is None else b.net_t2, b.slots,
    )  # fmt: skip
    constants = {"SLOTS": BEGIN_SLOTS, "SECOND": b.net_t2 is not None}
    return Launch(arguments, constants, (-(-b.slots // BEGIN_SLOTS), 1))


def step_launch(buffers: StepBuffers, calls: int, history: int | None = None) -> Launch:
    """The launch of `fused_step` over the buffers.

    Args:
        buffers: The tensors.
        calls: Philox calls of a block.
        history: Arrays of history that it is compiled for, at least the buffers'; None: those.
    """
    import torch

    b, x = buffers, buffers.x
    D = b.elements
    count = len(b.history) if history is None else history
    history_arrays = (*b.history, x, x, x)[:3]  # absent ones are never touched; any address does
    absent = [x if tensor is None else tensor for tensor in (b.x0, b.mask, b.known)]
    arguments = (
        b.table.view(torch.int64), b.current, b.seed, b.guidance, b.cond_row, b.uncond_row,
        b.flags, x, b.output, b.net_x, *history_arrays, *absent, D if D % 4 else D // 4,
    )  # fmt: skip
    constants = {
        "ALIGNED": D % 4 == 0,
        "HISTORY": count,
        "X0": b.x0 is not None,
        "INPAINT": b.mask is not None,
        "LEARNED": b.learned_variance,
        "CALLS": calls,
    }
    return Launch(arguments, constants, (-(-D // (4 * calls)), b.slots))


class TritonStep:
    """A prepared step over device buffers.

    The kernels keep the tensors' addresses (and keep the tensors alive): write into them, never
    replace them. A slot whose program has ended must give up its network rows (-1) before
    another slot gets them: slots run at the same time.
    """

    def __init__(
        self,
        buffers: StepBuffers,
        *,
        calls: int | None = None,
        kernels: ModuleType | None = None,
    ) -> None:
        """Prepare the step; nothing is compiled or launched yet.

        Args:
            buffers: The tensors, on a CUDA device.
            calls: Philox calls of a block (a power of two); None for what suits the size.
            kernels: `revstep.kernels.gpu.step`, or the same loaded under Triton's interpreter,
                which runs on the CPU.

        Raises:
            ImportError: Triton is not installed.
            ValueError: The buffers are not on a CUDA device.
        """
        self._kernels = _kernels_for(buffers.x, kernels)
        self.buffers = buffers
        chosen = choose_calls(buffers.slots, buffers.elements, len(buffers.history))
        self.calls = chosen if calls is None else calls
        self._launches = {
            "begin_step_kernel": begin_launch(buffers),
            "fused_step_kernel": step_launch(buffers, self.calls),
        }
        self._run: dict[str, Callable[[], None]] = {}

    def warm_up(self) -> None:
        """Compile and load both kernels without touching the buffers; do it before a capture.

        One block that does nothing is launched for that, on the current stream.
        """
        for name in self._launches:
            self._runner(name)

    def begin(self) -> None:
        """Choose each slot's table row, write `net_t`, count the step: enqueued, not awaited."""
        self._runner("begin_step_kernel")()

    def step(self) -> None:
        """Run the row of every slot: enqueued on the current stream, not awaited."""
        self._runner("fused_step_kernel")()

    def _runner(self, name: str) -> Callable[[], None]:
        if name not in self._run:
            kernel, launch = getattr(self._kernels, name), self._launches[name]
            self._run[name] = prepare(kernel, launch, self.buffers.x)
        return self._run[name]


def prepare(kernel: Any, launch: Launch, like: torch.Tensor) -> Callable[[], None]:
    """Load a kernel's one specialisation for a launch, and bind the launch to it."""
    import torch

    if not hasattr(kernel, "device_caches"):  # the interpreter's, which has nothing to load
        return lambda: kernel[launch.grid](*launch.arguments, **launch.constants)
    with torch.cuda.device(like.device):
        compiled = kernel[(1, 1)](*harmless_arguments(launch, like), **launch.constants, **OPTIONS)
    bound = compiled[(*launch.grid, 1)]  # keeps the module loaded
    arguments = (*launch.arguments, *launch.constants.values())

    def run() -> None:
        with torch.cuda.device(like.device):
            bound(*arguments)

    return run


def harmless_arguments(launch: Launch, like: torch.Tensor) -> tuple[Any, ...]:
    """Arguments of the same classes with which one block does nothing.

    Zeros are no slots, no elements, and an inactive table row.
    """
    import torch

    return tuple(
        torch.zeros(64, dtype=value.dtype, device=like.device)
        if isinstance(value, torch.Tensor)
        else 0
        for value in launch.arguments
    )


def normal_fill(
    out: torch.Tensor,
    seed: torch.Tensor,
    index: int | torch.Tensor,
    stream: int,
    *,
    kernels: ModuleType | None = None,
) -> None:
    """Fill `out` with revstep's standard normals (`revstep.kernels.noise`), on its device.

    Args:
        out: float32 [B, D] on a CUDA device, contiguous; written on the current stream.
        seed: int64 [B]: the 64 bits of each sample's key.
        index: Noise index: one integer in 0..2**32 - 1, or int32 [B] (the 32 bits).
        stream: `noise.STREAM_STEP`, `STREAM_INITIAL` or `STREAM_KNOWN`.
        kernels: As for `TritonStep`.

    Raises:
        ImportError: Triton is not installed.
        TypeError: A wrong dtype.
        ValueError: A wrong shape, device, layout or alignment, or an index out of range.
    """
    import torch

    if out.dtype != torch.float32 or seed.dtype != torch.int64:
        raise TypeError(f"out is {out.dtype}, seed {seed.dtype}; use torch.float32 and torch.int64")
    if out.ndim != 2 or not out.is_contiguous() or out.data_ptr() % 16:
        raise ValueError(
            f"out has shape {list(out.shape)}; it must be contiguous [B, D], aligned to 16 bytes"
        )
    B, D = out.shape
    if not (1 <= B <= TORCH.max_slots and 1 <= D <= TORCH.max_elements):
        limits = [TORCH.max_slots, TORCH.max_elements]
        raise ValueError(f"out has shape {[B, D]}; at most {limits}")
    if seed.shape != (B,) or seed.device != out.device or not seed.is_contiguous():
        raise ValueError(f"seed has shape {list(seed.shape)}; it must be [{B}], beside out")
    each = isinstance(index, torch.Tensor)
    if isinstance(index, torch.Tensor):
        if index.dtype != torch.int32 or index.shape != (B,) or index.device != out.device:
            raise ValueError(
                f"index is {index.dtype} {list(index.shape)}; it must be int32 [{B}], beside out"
            )
        numbers, number = index.contiguous(), 0
    else:
        if not 0 <= index < 1 << 32:
            raise ValueError(f"index is {index}; it must be in 0..2**32 - 1")
        numbers, number = seed.view(torch.int32), index - (1 << 32) * (index >> 31)
    kernel = _kernels_for(out, kernels).normal_fill_kernel
    grid = (-(-D // (4 * SMALL_CALLS)), B)
    size = D if D % 4 else D // 4
    arguments = (out, seed, numbers, number, stream, size)
    constants = {"ALIGNED": D % 4 == 0, "PER_SAMPLE": each, "CALLS": SMALL_CALLS}
    context = torch.cuda.device(out.device) if out.is_cuda else contextlib.nullcontext()
    with context:
        kernel[grid](*arguments, **constants, **OPTIONS)


def _kernels_for(tensor: torch.Tensor, kernels: ModuleType | None) -> Any:
    if kernels is None:
        if tensor.device.type != "cuda":
            raise ValueError(
                f"the tensors are on {tensor.device}; the Triton kernels run on a CUDA device "
                "(on a CPU use revstep.kernels.StepKernel)"
            )
        from revstep.kernels.gpu import step as step_kernels

        return step_kernels
    return kernels
