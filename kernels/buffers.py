"""The arrays that one fused step works on, validated once.

B = sample slots, D = elements of a sample, N = network rows, R = table rows. All arrays are
C-contiguous numpy arrays on the CPU. The network's dtype is float32, float16, or bfloat16 held
as uint16 (numpy has no bfloat16: a uint16 array *is* bfloat16 here).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.kernels import columns as col
from revstep.kernels.layout import MAX_HISTORY, Shape, check_layout, check_shape

NETWORK_DTYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint16))
_DTYPES: dict[str, tuple[np.dtype[Any], ...]] = {
    "float32": (np.dtype(np.float32),),
    "int32": (np.dtype(np.int32),),
    "seed": (np.dtype(np.uint64),),
    "network": NETWORK_DTYPES,
}
MAX_ELEMENTS = 1 << 34  # the noise counter is 32 bits of 4 elements each


@dataclass(frozen=True, eq=False, kw_only=True)
class StepBuffers:
    """Arrays of one `fused_step`; the kernels keep their addresses.

    Attributes:
        table: float32 [R, 32], programs of all samplers (`revstep.kernels.columns`).
        base: int32 [B], first table row of the slot's program.
        length: int32 [B], active rows of it; row base + length is the identity row.
        counter: int32 [B], the step to do next, 0..length; only `begin_step` increments it.
        current: int32 [B], table row that `fused_step` runs; written by `begin_step`.
        seed: uint64 [B], noise key.
        guidance: float32 [B], classifier-free guidance (1: off).
        cond_row: int32 [B], network row of the conditional half; -1 for an unused slot.
        uncond_row: int32 [B], network row of the unconditional half, or -1.
        x: float32 [B, D], the state, updated in place.
        output: network dtype [N, D], or [N, 2 D] with learned variance: the network's output m.
        net_x: network dtype [N, D], the network's next input, written by `fused_step`.
        net_t: float32 [N], the network's times, written by `begin_step`.
        flags: int32 [B], set to 1 where a non-finite m was met; the kernels never clear it.
        history: 0 to 3 arrays float32 [B, D]: the slots q_1, q_2, q_3.
        x0: float32 [B, D] or None: the denoised estimate, written in the same pass.
        mask: float32 [B, D] or None: 1 where the sample is known (inpainting).
        known: float32 [B, D] or None: the known sample y; given with `mask` or not at all.
        learned_variance: The output's second half is the variance of improved DDPM.

    Raises:
        TypeError: An array is no numpy array, or has a wrong dtype.
        ValueError: A wrong shape, a layout or overlap that the kernels can't take, or
            rows and programs that would leave the table or the network's batch.
    """

    table: NDArray[np.float32]
    base: NDArray[np.int32]
    length: NDArray[np.int32]
    counter: NDArray[np.int32]
    current: NDArray[np.int32]
    seed: NDArray[np.uint64]
    guidance: NDArray[np.float32]
    cond_row: NDArray[np.int32]
    uncond_row: NDArray[np.int32]
    x: NDArray[np.float32]
    output: NDArray[Any]
    net_x: NDArray[Any]
    net_t: NDArray[np.float32]
    flags: NDArray[np.int32]
    history: tuple[NDArray[np.float32], ...] = ()
    x0: NDArray[np.float32] | None = None
    mask: NDArray[np.float32] | None = None
    known: NDArray[np.float32] | None = None
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

    def validate(self) -> None:
        """Check dtypes, shapes, layout, overlap, maps and programs (`check_rows`)."""
        check_layout(self, self._check, most_elements=MAX_ELEMENTS)
        self._check_overlap()
        self.check_rows()

    def check_rows(self) -> None:
        """Check the maps and the programs of all slots; call it after changing them.

        Raises:
            ValueError: A program leaves the table, a row names a history slot that doesn't
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
        live = self.counter < self.length
        _refuse(
            (self.cond_row < np.where(live, 0, -1)) | (self.cond_row >= N),
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
        fed = np.concatenate([self.cond_row[live], self.uncond_row[live]])
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
        slot, noise = rows[:, col.SLOT], rows[:, col.NOISE]
        slots = len(self.history)
        _refuse(
            ~((slot >= -1) & (slot < slots) & (slot == np.rint(slot))),
            lambda r: (
                f"table row {start + r} stores into slot {slot[r]:g}; there are {slots} "
                "history slots (-1: none)"
            ),
        )
        _refuse(
            ~((noise >= 0) & (noise < col.NOISE_LIMIT) & (noise == np.rint(noise))),
            lambda r: (
                f"table row {start + r} has noise index {noise[r]:g}; it must be an "
                f"integer in 0..{col.NOISE_LIMIT - 1}"
            ),
        )
        for k in range(slots, MAX_HISTORY):
            _refuse(
                (rows[:, col.H_1 + k] != 0) | (rows[:, col.KH_1 + k] != 0),
                lambda r, k=k: (
                    f"table row {start + r} reads history slot {k}; there are {slots} history slots"
                ),
            )

    def _check(self, name: str, array: object, kind: str, shape: Shape) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is a {type(array).__name__}; it must be a numpy array")
        allowed = (self.net_x.dtype,) if kind == "net_x" else _DTYPES[kind]
        if array.dtype not in allowed:
            names = " or ".join(d.name for d in allowed)
            note = " (uint16 holds bfloat16)" if kind == "network" else ""
            raise TypeError(f"{name} is {array.dtype}; it must be {names}{note}")
        check_shape(name, array.shape, shape)
        if not (array.flags.c_contiguous and array.flags.aligned):
            raise ValueError(f"{name} is not C-contiguous; pass np.ascontiguousarray({name})")
        if name in _WRITTEN and not array.flags.writeable:
            raise ValueError(f"{name} is read-only; the kernels write to it, pass a writable array")

    def _check_overlap(self) -> None:
        arrays = list(self._named_arrays())
        for i, (name, array) in enumerate(arrays):
            for other_name, other in arrays[i + 1 :]:
                written = name in _WRITTEN or other_name in _WRITTEN
                if written and np.may_share_memory(array, other):
                    raise ValueError(f"{name} and {other_name} share memory; use two arrays")

    def _named_arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                yield name, value
        for k, slot in enumerate(self.history):
            yield f"history[{k}]", slot


_WRITTEN = frozenset(
    {"counter", "current", "x", "net_x", "net_t", "flags", "x0"}
    | {f"history[{k}]" for k in range(MAX_HISTORY)}
)


def _refuse(bad: NDArray[np.bool_], message: Any) -> None:
    if bad.any():
        raise ValueError(message(int(np.flatnonzero(bad)[0])))
