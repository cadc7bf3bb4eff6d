"""The step by kernels compiled ahead of time, launched through cuda.core: no Triton, no compiler.

Written for cuda.core 1.2 and checked against its interface and a stand-in; no GPU has run it yet.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from revstep.kernels import aot
from revstep.kernels.sampler_step import (
    SMALL_CALLS,
    Launch,
    begin_launch,
    choose_calls,
    step_launch,
)

if TYPE_CHECKING:
    from revstep.kernels.device_buffers import DeviceBuffers


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
    """The folder's `kernels.json`, its form checked.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not an index of this format.
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
    return dict(index)


class CubinStep:
    """`TritonStep`'s verbs over kernels that `aot.write_kernels` wrote.

    The kernels keep the tensors' addresses: write into the tensors, never replace them.
    """

    def __init__(self, buffers: DeviceBuffers, folder: Path) -> None:
        """Load the kernels that these buffers need.

        Args:
            buffers: The tensors, on a CUDA device.
            folder: The bundle's `kernels/`, verified by whoever opened the bundle.

        Raises:
            FileNotFoundError: The index or a file is missing.
            ImportError: cuda.core is not installed.
            ValueError: The buffers are not on a CUDA device, or the folder has no kernel for them.
        """
        if buffers.device.type != "cuda":
            raise ValueError(f"the tensors are on {buffers.device}; compiled kernels need a GPU")
        index = read_index(folder)
        variant, launch = self._step_variant(buffers, index)
        self.buffers = buffers
        self._begin = _bind(folder, index, aot.Variant("begin_step"), begin_launch(buffers))
        self._step = _bind(folder, index, variant, launch)

    def warm_up(self) -> None:
        """Nothing is left to do: the kernels are loaded."""

    def begin(self) -> None:
        """Choose each slot's table row, write `net_t`, count the step: enqueued, not awaited."""
        self._enqueue(self._begin)

    def step(self) -> None:
        """Run the row of every slot: enqueued on the current stream, not awaited."""
        self._enqueue(self._step)

    def _enqueue(self, run: Callable[[Any], None]) -> None:
        import torch

        with torch.cuda.device(self.buffers.device):
            run(torch.cuda.current_stream())

    @staticmethod
    def _step_variant(buffers: DeviceBuffers, index: dict[str, Any]) -> tuple[aot.Variant, Launch]:
        dtype = str(buffers.net_x.dtype).removeprefix("torch.")
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
            f"{wanted} history slots, learned variance {buffers.learned_variance}; compile the "
            "kernels into the bundle again"
        )


def kernel_arguments(launch: Launch, scratch: int) -> list[Any]:
    """The launch's arguments as cuda.core takes them: addresses as int, counts as np.int32."""
    values: list[Any] = [
        int(v.data_ptr()) if hasattr(v, "data_ptr") else np.int32(v) for v in launch.arguments
    ]
    return values + [0] * scratch


def _bind(
    folder: Path, index: dict[str, Any], variant: aot.Variant, launch: Launch
) -> Callable[[Any], None]:
    """A function that enqueues the launch on a stream."""
    import torch
    from cuda.core import LaunchConfig, ObjectCode
    from cuda.core import launch as enqueue

    device = launch.arguments[0].device
    entry = index["kernels"][variant.name]
    path = folder / choose_file(entry["files"], torch.cuda.get_device_capability(device))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; compile the kernels into the bundle again")
    read = ObjectCode.from_ptx if path.suffix == ".ptx" else ObjectCode.from_cubin
    code = path.read_bytes()
    with torch.cuda.device(device):
        torch.cuda.current_stream()  # torch makes the context before cuda.core loads into it
        torch.zeros(1, device=device)
        kernel = read(code).get_kernel(entry["entry"])
    config = LaunchConfig(grid=launch.grid, block=(index["threads"],), shmem_size=entry["shared"])
    values = kernel_arguments(launch, entry["scratch"])
    keep = launch.arguments  # the tensors whose addresses are bound

    def run(stream: Any) -> None:
        assert keep
        enqueue(stream, config, kernel, *values)

    return run
