"""The buffers that one fused step works on, validated once: numpy arrays, or torch tensors.

B = sample slots, D = elements of a sample, N = network rows, R = table rows. All are contiguous,
and all of one kind: numpy arrays on the CPU, or torch tensors on one device. The network's dtype is
float32, float16 or bfloat16; numpy has no bfloat16: a uint16 array *is* bfloat16 here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.kernels import columns as col
from revstep.kernels.layout import MAX_HISTORY, WRITTEN, Array, check_layout


@dataclass(frozen=True, eq=False, kw_only=True)
class StepBuffers:
    """Arrays of one `fused_step`; the kernels and graphs keep their addresses.

    Of tensors only dtype, shape, device and layout are checked: to look into a table or a map on a
    GPU would wait for it. Whoever writes programs and maps there checks them on the host first, as
    `check_rows` does; the kernels themselves trust them. Those of two axes must start at a multiple
    of 16 bytes.

    Attributes:
        table: float32 [R, 32], programs of all samplers (`revstep.kernels.columns`).
        base: int32 [B], first table row of the slot's program.
        length: int32 [B], active rows of it; row base + length is the identity row.
        counter: int32 [B], the step to do next, 0..length; only `begin_step` increments it.
        current: int32 [B], table row that `fused_step` runs; written by `begin_step`.
        seed: uint64 [B], noise key; tensors: int64, the same 64 bits.
        guidance: float32 [B], classifier-free guidance (1: off).
        cond_row: int32 [B], network row of the conditional half; -1 for an unused slot.
        uncond_row: int32 [B], network row of the unconditional half, or -1.
        x: float32 [B, D], the state, updated in place.
        output: network dtype [N, D], or [N, 2 D] with learned variance: the network's output m.
        net_x: network dtype [N, D], the network's next input, written by `fused_step`.
        net_t: float32 [N], the network's times, written by `begin_step`.
        flags: int32 [B], set to 1 where a non-finite m was met; the kernels never clear it.
        history: 0 to 3 arrays float32 [B, D]: q_1, q_2, q_3.
        x0: float32 [B, D] or None: the denoised estimate, written in the same pass.
        mask: float32 [B, D] or None: 1 where the sample is known (inpainting).
        known: float32 [B, D] or None: the known sample y; given with `mask` or not at all.
        net_t2: float32 [N] or None: the second times of a network of two, written by `begin_step`.
        learned_variance: The output's second half is the variance of improved DDPM.

    Raises:
        TypeError: A field is no array of x's kind, or has a wrong dtype.
        ValueError: A wrong shape, device, layout, alignment or overlap; sizes that the kernels
            can't take; of numpy arrays, what `check_rows` refuses.
    """

    table: Array
    base: Array
    length: Array
    counter: Array
    current: Array
    seed: Array
    guidance: Array
    cond_row: Array
    uncond_row: Array
    x: Array
    output: Array
    net_x: Array
    net_t: Array
    flags: Array
    history: tuple[Array, ...] = ()
    x0: Array | None = None
    mask: Array | None = None
    known: Array | None = None
    net_t2: Array | None = None
    learned_variance: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", tuple(self.history))
        self.validate()

    @property
    def slots(self) -> int:
        """B, the number of sample slots."""
        return int(self.x.shape[0])

    @property
    def elements(self) -> int:
        """D, the number of elements of a sample."""
        return int(self.x.shape[1])

    @property
    def network_rows(self) -> int:
        """N, the number of rows of the network's batch."""
        return int(self.net_x.shape[0])

    @property
    def device(self) -> Any:
        """The device of all tensors; of numpy arrays "cpu"."""
        return getattr(self.x, "device", "cpu")

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Every array with its name, as "x" or "history[0]"."""
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name == "history":
                yield from ((f"history[{k}]", array) for k, array in enumerate(value))
            elif name != "learned_variance" and value is not None:
                yield name, value

    def validate(self) -> None:
        """Check dtypes, shapes and layout; of numpy arrays, overlap, maps and programs too."""
        if len(self.history) > MAX_HISTORY:
            raise ValueError(f"history has {len(self.history)} arrays; at most {MAX_HISTORY}")
        if (self.mask is None) != (self.known is None):
            given = "mask" if self.known is None else "known"
            raise ValueError(f"only {given} is given; inpainting needs both mask and known")
        check_layout(dict(self.arrays()), learned_variance=self.learned_variance)
        if isinstance(self.x, np.ndarray):
            self._check_overlap()
            self.check_rows()

    def check_rows(self) -> None:
        """Check the maps and the programs of all slots, numpy arrays; call it after changing them.

        Raises:
            ValueError: A program leaves the table, a row names history that doesn't
                exist or a noise index out of range, the row after a program is active, a
                network row is out of range, or two unfinished slots share a network row.
        """
        R, N = self.table.shape[0], self.network_rows
        first = self.base.astype(np.int64)
        last = first + self.length
        _refuse(
            (first < 0) | (self.length < 0) | (last >= R),
            lambda b: (
                f"program of slot {b} is rows {first[b]}..{last[b]} (the last one is its "
                f"identity row); the table has rows 0..{R - 1}"
            ),
        )
        _refuse(
            (self.counter < 0) | (self.counter > self.length),
            lambda b: (
                f"counter of slot {b} is {self.counter[b]}; its program has steps "
                f"0..{self.length[b]}"
            ),
        )
        unfinished = self.counter < self.length
        _refuse(
            (self.cond_row < np.where(unfinished, 0, -1)) | (self.cond_row >= N),
            lambda b: (
                f"cond_row of slot {b} is {self.cond_row[b]}; network rows are 0..{N - 1} "
                "(-1: none, only for a slot whose program has ended)"
            ),
        )
        _refuse(
            (self.uncond_row < -1) | (self.uncond_row >= N),
            lambda b: (
                f"uncond_row of slot {b} is {self.uncond_row[b]}; network rows are "
                f"0..{N - 1}, or -1 for none"
            ),
        )
        fed = np.concatenate([self.cond_row[unfinished], self.uncond_row[unfinished]])
        rows, uses = np.unique(fed[fed >= 0], return_counts=True)
        if (uses > 1).any():
            raise ValueError(
                f"network row {rows[uses > 1][0]} is fed by two halves of unfinished slots; "
                "give each its own row"
            )
        for start, stop in sorted({*zip(first.tolist(), last.tolist(), strict=True)}):
            self._check_program(start, stop)

    def _check_program(self, start: int, stop: int) -> None:
        if self.table[stop, col.ACTIVE] != 0:
            raise ValueError(
                f"table row {stop} ends the program {start}..{stop} and is active; put "
                "identity_row(...) there"
            )
        rows = self.table[start:stop]
        store, noise = rows[:, col.STORE], rows[:, col.NOISE]
        count = len(self.history)
        _refuse(
            ~((store >= -1) & (store < count) & (store == np.rint(store))),
            lambda r: (
                f"table row {start + r} stores into history {store[r]:g}; there are {count} "
                "arrays (-1: none)"
            ),
        )
        _refuse(
            ~((noise >= 0) & (noise < col.NOISE_LIMIT) & (noise == np.rint(noise))),
            lambda r: (
                f"table row {start + r} has noise index {noise[r]:g}; it must be an "
                f"integer in 0..{col.NOISE_LIMIT - 1}"
            ),
        )
        for k in range(count, MAX_HISTORY):
            _refuse(
                (rows[:, col.H_1 + k] != 0) | (rows[:, col.KH_1 + k] != 0),
                lambda r, k=k: f"table row {start + r} reads history {k}; there are {count} arrays",
            )

    def _check_overlap(self) -> None:
        arrays = list(self.arrays())
        written = [name in WRITTEN for name, _ in arrays]
        for i, (name, array) in enumerate(arrays):
            for j in range(i + 1, len(arrays)):
                other_name, other = arrays[j]
                if (written[i] or written[j]) and np.may_share_memory(array, other):
                    raise ValueError(f"{name} and {other_name} share memory; use two arrays")


def numpy_views(buffers: StepBuffers) -> StepBuffers:
    """The tensors as numpy arrays: views of those on the CPU, copies of others.

    bfloat16 becomes uint16, and the seeds uint64.

    Raises:
        ValueError: Maps or programs that `StepBuffers.check_rows` refuses.
    """
    import torch

    def view(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(view(tensor) for tensor in value)
        if not isinstance(value, torch.Tensor):
            return value
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).cpu().numpy().view(np.uint16)
        array = value.cpu().numpy()
        return array.view(np.uint64) if value.dtype == torch.int64 else array

    return StepBuffers(**{f.name: view(getattr(buffers, f.name)) for f in fields(buffers)})


def _refuse(bad: NDArray[np.bool_], message: Any) -> None:
    if bad.any():
        raise ValueError(message(int(np.flatnonzero(bad)[0])))
