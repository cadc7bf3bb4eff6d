"""The step by kernels compiled ahead of time, launched through cuda.core: no Triton, no compiler.

Written for cuda.core 1.2 and checked against its interface and a stand-in; no GPU has run it yet.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from revstep.kernels.gpu import aot
from revstep.kernels.gpu.launch import (
    SMALL_CALLS,
    Launch,
    begin_launch,
    choose_calls,
    harmless_arguments,
    step_launch,
)
from revstep.kernels.layout import dtype_name

if TYPE_CHECKING:
    import torch

    from revstep.kernels.buffers import StepBuffers


def choose_file(files: dict[str, str], capability: tuple[int, int]) -> str:
    """Machine code of exactly this GPU's kind, or the portable PTX, which the driver compiles.

    Args:
        files: File names by "ptx" and "sm_<capability>".
        capability: Compute capability of the GPU, (major, minor).

    Raises:
        ValueError: The GPU is older than 8.0.
    """
    major, minor = capability
    if major < 8:
        raise ValueError(f"the GPU has compute capability {major}.{minor}; the kernels need 8.0")
    exact = f"sm_{major}{minor}"
    if exact not in files and major == 8:
        exact = "sm_80"  # plain code runs on later GPUs of its generation; sm_90a's does not
    return files.get(exact, files["ptx"])


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's `kernels.json`, its form and age checked.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not an index of this format, or of other kernels than this revstep's.
    """
    path = folder / aot.INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; compile the kernels into the bundle again")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no index of kernels: {error!r}") from error
    if version != aot.FORMAT:
        raise ValueError(f"{path} has format {version}; this revstep reads {aot.FORMAT}")
    if index["source_sha256"] != aot.source_digest():
        raise ValueError(
            f"{path}: its kernels were compiled from another revstep's source, with other "
            "arguments perhaps; compile the kernels into the bundle again"
        )
    return dict(index)


def chosen_target(index: dict[str, Any], capability: tuple[int, int]) -> str:
    """What of an index runs on a GPU: "sm_90" (machine code), or "ptx" (compiled by the driver)."""
    files: dict[str, str] = next(iter(index["kernels"].values()))["files"]
    chosen = choose_file(files, capability)
    return next(target for target, file in files.items() if file == chosen)


class CubinStep:
    """`TritonStep`'s verbs over kernels that `aot.write_kernels` wrote.

    The kernels keep the tensors' addresses: write into the tensors, never replace them.
    """

    def __init__(self, buffers: StepBuffers, folder: Path) -> None:
        """Load the kernels that these buffers need.

        Args:
            buffers: The tensors, on a CUDA device.
            folder: The bundle's `kernels/`, verified by whoever opened the bundle.

        Raises:
            FileNotFoundError: The index or a file is missing.
            ImportError: cuda.core is not installed.
            ValueError: The buffers are not on a CUDA device, the folder has no kernel for them, or
                the driver refuses it.
        """
        _need_gpu(buffers.device)
        index = read_index(folder)
        variant, launch = self._step_variant(buffers, index)
        self.buffers = buffers
        first = aot.Variant("begin_step", two_times=buffers.net_t2 is not None)
        begin = _load(folder, index, first, buffers.device)
        step = _load(folder, index, variant, buffers.device)
        self._launches = ((begin, begin_launch(buffers)), (step, launch))
        self._begin, self._step = (kernel.bind(launch) for kernel, launch in self._launches)

    def warm_up(self) -> None:
        """Load both kernels without touching the buffers; do it before a capture.

        The driver may load a kernel only at its first launch: one block that does nothing is
        launched, on the current stream.
        """
        for kernel, launch in self._launches:
            arguments = harmless_arguments(launch, self.buffers.x)
            kernel.bind(launch._replace(arguments=arguments, grid=(1, 1)))()

    def begin(self) -> None:
        """Choose each slot's table row, write `net_t`, count the step: enqueued, not awaited."""
        self._begin()

    def step(self) -> None:
        """Run the row of every slot: enqueued on the current stream, not awaited."""
        self._step()

    @staticmethod
    def _step_variant(buffers: StepBuffers, index: dict[str, Any]) -> tuple[aot.Variant, Launch]:
        dtype = dtype_name(buffers.net_x)
        wanted = len(buffers.history)
        calls = choose_calls(buffers.slots, buffers.elements, wanted)
        for history in range(wanted, 4):
            launch = step_launch(buffers, calls, history)
            c = launch.constants
            variant = aot.Variant(
                "fused_step", dtype, c["ALIGNED"], history, c["X0"], c["INPAINT"], c["LEARNED"],
                calls,
            )  # fmt: skip
            for candidate in (variant, dataclasses.replace(variant, calls=SMALL_CALLS)):
                if candidate.name in index["kernels"]:
                    return candidate, step_launch(buffers, candidate.calls, history)
        kind = "a multiple of 4" if buffers.elements % 4 == 0 else "no multiple of 4"
        raise ValueError(
            f"no compiled kernel for {dtype} outputs, {buffers.elements} elements ({kind}), "
            f"{wanted} arrays of history, learned variance {buffers.learned_variance}; compile the "
            "kernels into the bundle again"
        )


class CubinNoise:
    """`revstep.kernels.gpu.launch.normal_fill` by a compiled kernel."""

    def __init__(self, folder: Path) -> None:
        """Read the index; the kernel is loaded when first used.

        Args:
            folder: As for `CubinStep`.

        Raises:
            FileNotFoundError: The index is missing.
            ValueError: It can't be used.
        """
        self._folder, self._index = folder, read_index(folder)
        self._loaded: dict[tuple[bool, torch.device], _Loaded] = {}

    def __call__(self, out: torch.Tensor, seed: torch.Tensor, index: int, stream: int) -> None:
        """Fill `out` on its device: enqueued on the current stream, not awaited.

        Args:
            out: float32 [B, D], contiguous, aligned to 16 bytes.
            seed: int64 [B]: the 64 bits of each sample's key.
            index: Noise index, 0..2**31 - 1.
            stream: `noise.STREAM_STEP`, `STREAM_INITIAL` or `STREAM_KNOWN`.
        """
        import torch

        _need_gpu(out.device)
        B, D = out.shape
        aligned = D % 4 == 0
        key = (aligned, out.device)
        if key not in self._loaded:
            variant = aot.Variant("normal_fill", aligned=aligned)
            self._loaded[key] = _load(self._folder, self._index, variant, out.device)
        arguments = (out, seed, seed.view(torch.int32), index, stream, D // 4 if aligned else D)
        self._loaded[key].bind(Launch(arguments, {}, (-(-D // (4 * SMALL_CALLS)), B)))()


def kernel_arguments(launch: Launch, scratch: int) -> list[Any]:
    """The launch's arguments as cuda.core takes them: addresses as int, counts as np.int32."""
    arguments: list[Any] = [
        int(v.data_ptr()) if hasattr(v, "data_ptr") else np.int32(v) for v in launch.arguments
    ]
    return arguments + [0] * scratch


def _need_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        raise ValueError(f"the tensors are on {device}; compiled kernels need a GPU")


class _Loaded(NamedTuple):
    """A kernel in a device's context, and how it is launched."""

    kernel: Any
    threads: int
    shared: int
    scratch: int

    def bind(self, launch: Launch) -> Callable[[], None]:
        """A function that enqueues the launch on the current stream."""
        import torch
        from cuda.core import LaunchConfig
        from cuda.core import launch as enqueue

        device = launch.arguments[0].device
        config = LaunchConfig(grid=launch.grid, block=(self.threads,), shmem_size=self.shared)
        arguments = kernel_arguments(launch, self.scratch)
        keep = launch.arguments  # the tensors whose addresses are bound

        def run() -> None:
            assert keep
            with torch.cuda.device(device):
                enqueue(torch.cuda.current_stream(), config, self.kernel, *arguments)

        return run


def _load(
    folder: Path, index: dict[str, Any], variant: aot.Variant, device: torch.device
) -> _Loaded:
    import torch
    from cuda.core import ObjectCode

    if variant.name not in index["kernels"]:
        raise ValueError(
            f"no compiled kernel {variant.name}; compile the kernels into the bundle again"
        )
    entry = index["kernels"][variant.name]
    path = folder / choose_file(entry["files"], torch.cuda.get_device_capability(device))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; compile the kernels into the bundle again")
    read = ObjectCode.from_ptx if path.suffix == ".ptx" else ObjectCode.from_cubin
    with torch.cuda.device(device):
        torch.zeros(1, device=device)  # torch makes the context before cuda.core loads into it
        try:
            kernel = read(path.read_bytes()).get_kernel(entry["entry"])
        except Exception as error:  # cuda.core's own errors, and SystemError without a driver
            cause = error.__context__ or error
            raise ValueError(f"the driver can't load {path}: {cause}") from error
    return _Loaded(kernel, index["threads"], entry["shared"], entry["scratch"])
