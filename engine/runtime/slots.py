"""Slots: the samples' places in a lane, as static buffers of its device.

Nothing here is allocated anew or moved while steps are prepared over it: kernels and graphs keep
the addresses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.devices.protocol import Device
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.arena import IDLE_ROW
from revstep.engine.runtime.batch import Batch
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.kernels import StepBuffers
from revstep.kernels.layout import Array

FIELDS = ("base", "length", "counter", "current", "cond_row", "uncond_row", "flags", "guidance")
BASE, LENGTH, COUNTER, CURRENT, COND_ROW, UNCOND_ROW, FLAGS, GUIDANCE = range(len(FIELDS))


class Slots:
    """What the steps of up to S samples read and write besides the network's buffers.

    An idle slot stands at the arena's idle row and feeds no network row.

    Args:
        spec: The denoiser's spec.
        count: S.
        device: Where they are.

    Attributes:
        seed: uint64 (S,), or int64 of the same bits.
        x: float32 (S, D): the states.
        state_bytes: Bytes of all that is (S, D).
    """

    def __init__(self, spec: DenoiserSpec, count: int, device: Device) -> None:
        self._device = device
        self._learned_variance = spec.learned_variance
        # rows of 16 bytes' multiple, so that every field is as aligned as the first; guidance's
        # bits are held as integers: one copy writes all fields
        width = -(-count // 4) * 4
        self._fields: Array = device.zeros((len(FIELDS), width), "int32")
        self._idle = np.zeros((len(FIELDS), width), np.int32)
        self._idle[BASE] = IDLE_ROW
        self._idle[[COND_ROW, UNCOND_ROW]] = -1
        self._idle[GUIDANCE] = np.float32(1.0).view(np.int32)
        self._blank = device.upload(self._idle)  # who leaves needs no memory
        self.state_bytes = 0
        self.seed: Array = device.zeros((count,), "uint64")
        self.x: Array = self._states(spec.elements)
        self._history: list[Array] = []
        self._x0: Array | None = None
        self._known: tuple[Array, Array] | None = None
        self._fields[:] = self._blank

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def flags(self) -> Array:
        """int32 (S,): not 0 where the network's output was not finite."""
        return self._fields[FLAGS]

    @property
    def x0(self) -> Array:
        """float32 (S, D): the denoised estimates; allocated when first asked for."""
        if self._x0 is None:
            self._x0 = self._states()
        return self._x0

    @property
    def known(self) -> tuple[Array, Array]:
        """Inpainting's mask and known pixels, float32 (S, D); allocated when first asked for."""
        if self._known is None:
            self._known = self._states(), self._states()
        return self._known

    def place(
        self,
        where: slice | Array,
        batch: Batch,
        *,
        cond_rows: NDArray[np.intp],
        uncond_rows: NDArray[np.intp],
        program: StepProgram,
        base: int,
        clear: bool,
    ) -> NDArray[np.int32]:
        """Gives slots their samples, at step 0; returns the fields, for ``begin``.

        Args:
            where: The slots, k of them; the first k if ``clear``.
            batch: The k samples.
            cond_rows: Network rows of their conditional halves (k,).
            uncond_rows: Network rows of the guided ones' unconditional halves.
            program: Their program.
            base: Its first table row.
            clear: Whether all other slots become idle.
        """
        k = batch.n
        fields = (self._idle if clear else self._idle[:, :k]).copy()
        fields[BASE, :k], fields[LENGTH, :k] = base, program.length
        fields[COND_ROW, :k] = cond_rows
        fields[UNCOND_ROW, batch.guided] = uncond_rows
        fields[GUIDANCE, :k] = batch.guidance.view(np.int32)
        self._fields[:, slice(None) if clear else where] = self._device.upload(fields)
        return fields

    def begin_again(self, fields: NDArray[np.int32], batch: Batch) -> None:
        """Puts all slots back to step 0, with the fields that ``place`` gave them with ``clear``.

        Args:
            fields: What ``place`` gave; the batch's guidance is written into it.
            batch: The samples.
        """
        fields[GUIDANCE, : batch.n] = batch.guidance.view(np.int32)
        self._fields[:] = self._device.upload(fields)

    def start(self, where: slice | Array, batch: Batch, start: tuple[float, float]) -> Array:
        """Writes the samples' seeds, known pixels and initial states; gives the states (k, D).

        Args:
            where: Their slots, k of them.
            batch: The k samples.
            start: (alpha, sigma) of the initial states alpha y + sigma z.
        """
        k, upload = batch.n, self._device.upload
        self.seed[where] = upload(batch.seeds)
        if batch.mask is not None and batch.known is not None:
            for buffer, pixels in zip(self.known, (batch.mask, batch.known), strict=True):
                buffer[where] = upload(pixels.reshape(k, -1))
        return self._states_at(where, batch, start)

    def clear(self, where: slice | Array, count: int) -> None:
        """Makes ``count`` slots idle."""
        self._fields[:, where] = self._blank[:, :count]

    def move(
        self,
        source: slice | Array,
        target: slice | Array,
        *,
        cond_rows: NDArray[np.intp],
        uncond_rows: NDArray[np.intp],
        guided: NDArray[np.intp],
    ) -> None:
        """Moves k samples to other slots, which may be some of their own, and to other rows.

        Args:
            source: Where they are.
            target: Where they go.
            cond_rows: Network rows of their conditional halves (k,), there.
            uncond_rows: Network rows of the guided ones' unconditional halves.
            guided: Which those are.
        """
        fields = copied(self._fields[:, source])
        k = len(cond_rows)
        rows = self._idle[[COND_ROW, UNCOND_ROW], :k].copy()
        rows[0], rows[1, guided] = cond_rows, uncond_rows
        fields[[COND_ROW, UNCOND_ROW]] = self._device.upload(rows)
        self._fields[:, source] = self._blank[:, :k]
        self._fields[:, target] = fields
        states = (self.x, *self._history, *(() if self._known is None else self._known))
        for array in (self.seed, *states):
            array[target] = copied(array[source])  # they may overlap

    @contextlib.contextmanager
    def all_idle(self) -> Iterator[None]:
        """Every slot is idle inside: steps change nothing."""
        kept = copied(self._fields)
        self._fields[:] = self._blank
        try:
            yield
        finally:
            self._fields[:] = kept

    def step_buffers(
        self, table: Array, network: NetworkBuffers, history: int, x0: bool, inpaint: bool
    ) -> StepBuffers:
        """The buffers of the steps of one bucket: as many slots as it has network rows."""
        rows = int(network.t.shape[0])
        fields: dict[str, Any] = {
            name: self._fields[k, :rows] for k, name in enumerate(FIELDS) if name != "guidance"
        }
        while len(self._history) < history:
            self._history.append(self._states())
        return StepBuffers(
            table=table,
            guidance=self._fields[GUIDANCE, :rows].view(self.x.dtype),
            seed=self.seed[:rows],
            x=self.x[:rows],
            output=network.out.reshape(rows, -1),
            net_x=network.x.reshape(rows, -1),
            net_t=network.t,
            net_t2=network.second,
            history=tuple(q[:rows] for q in self._history[:history]),
            x0=self.x0[:rows] if x0 else None,
            mask=self.known[0][:rows] if inpaint else None,
            known=self.known[1][:rows] if inpaint else None,
            learned_variance=self._learned_variance,
            **fields,
        )

    def _states_at(self, where: slice | Array, batch: Batch, start: tuple[float, float]) -> Array:
        """Writes the states alpha y + sigma z."""
        k, device, elements = len(batch.seeds), self._device, int(self.x.shape[1])
        # a GPU fills what begins at a multiple of 16 bytes
        in_place = isinstance(where, slice) and where.start * elements % 4 == 0
        alpha, sigma = float(np.float32(start[0])), float(np.float32(start[1]))
        x = self.x[where] if in_place else device.zeros((k, elements), "float32")
        if batch.noise is None:
            device.fill_noise(x, self.seed[where], batch.seeds)
        else:
            x[:] = device.upload(batch.noise.reshape(k, -1))
        if sigma != 1.0:
            x *= sigma
        if batch.start is not None and alpha != 0.0:
            x += device.upload(batch.start.reshape(k, -1)) * alpha
        if not in_place:
            self.x[where] = x
        return x

    def _states(self, elements: int | None = None) -> Array:
        shape = (len(self.seed), elements or int(self.x.shape[1]))
        self.state_bytes += 4 * shape[0] * shape[1]
        return self._device.zeros(shape, "float32")


def copied(array: Array) -> Array:
    """A copy, of either kind of array."""
    return array.copy() if isinstance(array, np.ndarray) else array.clone()
