"""The device's static buffers: one allocation for the largest bucket, its first rows for others.

Nothing here is ever allocated anew or freed while the engine lives: graphs keep the addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.devices.cuda import Queue
from revstep.engine.spec.denoiser import DenoiserSpec

if TYPE_CHECKING:
    import torch

    from revstep.kernels.buffers import StepBuffers

__all__ = ["SlotBuffers"]

INTS = ("base", "length", "counter", "current", "cond_row", "uncond_row", "flags", "guidance")


class SlotBuffers:
    """What the steps of up to S slots read and write besides the network's buffers.

    A slot without a program stands at the arena's idle row and feeds no network row.

    Args:
        spec: The denoiser's spec.
        slots: S.
        queue: Orders the uploads.
    """

    def __init__(self, spec: DenoiserSpec, slots: int, queue: Queue) -> None:
        import torch

        self._queue = queue
        self._width = spec.elements
        self._learned = spec.learned_variance
        # rows of 16 bytes' multiple, so that every field is as aligned as the first
        self._ints = torch.zeros(
            (len(INTS), -(-slots // 4) * 4), dtype=torch.int32, device=queue.device
        )
        self.seed = torch.zeros(slots, dtype=torch.int64, device=queue.device)
        self.x = torch.zeros((slots, self._width), dtype=torch.float32, device=queue.device)
        self._history: list[torch.Tensor] = []
        self._x0: torch.Tensor | None = None
        self._known: tuple[torch.Tensor, torch.Tensor] | None = None
        self.clear()

    @property
    def flags(self) -> torch.Tensor:
        """int32 (S,): not 0 where the network's output was not finite."""
        return self._ints[INTS.index("flags")]

    @property
    def x0(self) -> torch.Tensor:
        """float32 (S, D): the denoised estimates; allocated when first asked for."""
        import torch

        if self._x0 is None:
            self._x0 = torch.zeros_like(self.x)
        return self._x0

    @property
    def known(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inpainting's mask and known pixels, float32 (S, D); allocated when first asked for."""
        import torch

        if self._known is None:
            self._known = torch.zeros_like(self.x), torch.zeros_like(self.x)
        return self._known

    def history(self, count: int) -> tuple[torch.Tensor, ...]:
        """The first ``count`` history slots, float32 (S, D); allocated when first asked for."""
        import torch

        while len(self._history) < count:
            self._history.append(torch.zeros_like(self.x))
        return tuple(self._history[:count])

    def place(
        self, slots: NDArray[np.intp], seeds: NDArray[np.uint64], **values: NDArray[Any] | float
    ) -> None:
        """Writes seeds and the named fields (others become 0) of slots that are not running."""
        columns = np.zeros((len(INTS), len(slots)), np.int32)
        for name, value in values.items():
            array = np.asarray(value)
            kind = np.float32 if name == "guidance" else np.int32
            columns[INTS.index(name)] = array.astype(kind).view(np.int32)
        index = self._queue.upload(slots.astype(np.int64))
        self._ints.index_copy_(1, index, self._queue.upload(columns))
        self.seed.index_copy_(0, index, self._queue.upload(seeds.view(np.int64)))

    def clear(self) -> None:
        """Makes all slots idle."""
        count = len(self.seed)
        seeds = np.zeros(count, np.uint64)
        self.place(np.arange(count), seeds, guidance=1.0, cond_row=-1, uncond_row=-1)

    def step_buffers(
        self,
        table: torch.Tensor,
        network: NetworkBuffers,
        history: int,
        want_x0: bool,
        inpaint: bool = False,
    ) -> StepBuffers:
        """The tensors of the steps of one bucket: as many slots as it has network rows."""
        from revstep.kernels.buffers import StepBuffers

        rows = len(network.t)
        fields: dict[str, torch.Tensor] = {
            name: self._ints[k, :rows] for k, name in enumerate(INTS) if name != "guidance"
        }
        return StepBuffers(
            table=table,
            guidance=self._ints[INTS.index("guidance"), :rows].view(self.x.dtype),
            seed=self.seed[:rows],
            x=self.x[:rows],
            output=network.out.view(rows, -1),
            net_x=network.x.view(rows, -1),
            net_t=network.t,
            history=tuple(q[:rows] for q in self.history(history)),
            x0=self.x0[:rows] if want_x0 else None,
            mask=self.known[0][:rows] if inpaint else None,
            known=self.known[1][:rows] if inpaint else None,
            learned_variance=self._learned,
            **fields,
        )
