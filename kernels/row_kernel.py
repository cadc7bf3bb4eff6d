"""Single rows over arrays that a caller owns, given by address: for states that live elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.kernels.buffers import StepBuffers
from revstep.kernels.dispatch import backend


class RowKernel:
    """The native kernel over one state, where each call brings its own arrays.

    The table and the history keep their places; state, output, noise and results are addresses of
    contiguous arrays, which nothing here can check. Calls must not overlap in time.

    Attributes:
        run: ``run(row, state, output, to, copy, noise, x0)``: the table's row, from ``state``
            (float32 [D]) and the network's ``output`` to ``to`` (of that dtype, too) and,
            unless it is 0, ``copy`` (float32 [D], not rounded). ``noise`` (float32 [D]) is the
            row's z, and takes the place of the third history; 0 for a row that draws none. ``x0``
            is where the estimate goes (float32 [D]), or 0. Nothing may overlap ``to``. Gives
            whether the output held a non-finite number; those elements are NaN.
    """

    run: Callable[[int, int, int, int, int, int, int], bool]

    def __init__(
        self,
        table: NDArray[np.float32],
        history: Sequence[NDArray[np.float32]],
        elements: int,
        dtype: Any,
    ) -> None:
        """Prepare the rows.

        Args:
            table: float32 (R, 32): active rows, and the identity.
            history: Up to 3 arrays, float32 (1, D).
            elements: D.
            dtype: The network's: np.float32, np.float16, or np.uint16 for bfloat16.

        Raises:
            RuntimeError: There are no native kernels.
            ValueError: A table or an array that `StepBuffers` refuses.
        """
        if backend() != "native":
            raise RuntimeError("rows by address need the native kernels, which are not installed")

        def whole(value: int) -> NDArray[np.int32]:
            return np.array([value], np.int32)

        buffers = StepBuffers(
            table=table,
            base=whole(0),
            length=whole(len(table) - 1),
            counter=whole(0),
            current=whole(0),
            seed=np.zeros(1, np.uint64),
            guidance=np.ones(1, np.float32),
            cond_row=whole(0),
            uncond_row=whole(-1),
            x=np.empty((1, elements), np.float32),
            output=np.empty((1, elements), dtype),
            net_x=np.empty((1, elements), dtype),
            net_t=np.empty(1, np.float32),
            flags=whole(0),
            history=tuple(history),
        )
        self.run = importlib.import_module("revstep.kernels._native").Rows(buffers).run
