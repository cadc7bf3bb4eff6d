"""Rows run over a caller's tensors: by the native kernel on the CPU, else by PyTorch's operations.

The second is the same formula (``revstep.kernels.reference``) for all that the kernel doesn't take:
other devices, float64, gradients, and installations without native kernels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from revstep.engine.errors import ArgumentError
from revstep.export.compat.plan import Plan
from revstep.kernels import backend
from revstep.kernels import columns as col
from revstep.kernels.row_kernel import RowKernel

HISTORY = 3
Tensor, float32, empty_like = torch.Tensor, torch.float32, torch.empty_like  # found sooner
KERNEL_DTYPES = {
    torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.uint16,
}  # fmt: skip


class Rows:
    """The rows of a plan, with the history between them.

    Attributes:
        plan: The plan.
        numbers: Its rows, as lists.
        stores: Whether they have a history.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.numbers: list[list[float]] = plan.rows.tolist()
        self.stores = bool(plan.rows[:, col.STORE].max() >= 0)
        self._native = backend() == "native" and not _crowded(plan)
        self.restart()

    def restart(self) -> None:
        """Forget the history, before a run."""
        self._history: list[torch.Tensor | None] = [None] * HISTORY
        self._bound: list[torch.Tensor] = []
        self._kernels: dict[torch.dtype, Any] = {}
        self._shape: torch.Size | None = None

    def go_on(self, other: Rows) -> None:
        """Take over another's history."""
        self.restart()
        self._history = [None if h is None else h.clone() for h in other._history]

    def run(
        self,
        number: int,
        x: torch.Tensor,
        m: torch.Tensor,
        z: torch.Tensor | None,
        dtype: torch.dtype,
        want_x0: bool,
        copy: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One row.

        Args:
            number: Of the row.
            x: The state.
            m: The network's output.
            z: Standard normal noise, where the row draws it.
            dtype: Of the result.
            want_x0: Whether the estimate of the clean sample is wanted, too.
            copy: A second place for the next state, of x's shape, which is not rounded: float32,
                or of a wider dtype.

        Returns:
            The next state, in memory of its own, and x0, float32 from the kernel; or None.

        Raises:
            ArgumentError: Another shape than at the run's first call.
        """
        if (
            x.dtype is float32
            and m.dtype is dtype
            and x.is_cpu
            and m.is_cpu
            and x.is_contiguous()
            and m.is_contiguous()
            and x.shape == m.shape
            and type(x) is type(m) is Tensor
            and not ((x.requires_grad or m.requires_grad) and torch.is_grad_enabled())
            and (
                kernel := (x.shape == self._shape and self._kernels.get(dtype))
                or self._kernel(x, dtype)
            )
        ):
            out = empty_like(m)
            x0 = empty_like(x) if want_x0 else None
            kernel(
                number,
                x.data_ptr(),
                m.data_ptr(),
                out.data_ptr(),
                0 if copy is None else copy.data_ptr(),
                0 if z is None else z.data_ptr(),
                0 if x0 is None else x0.data_ptr(),
            )
            return out, x0
        wide, x0 = self._by_operations(number, x, m, z, want_x0)
        if copy is not None:
            copy.copy_(wide.detach())
        return wide.to(dtype), x0

    def _kernel(self, x: torch.Tensor, dtype: torch.dtype) -> Any:
        """The kernel's ``run`` for a state and a dtype; None where there is none."""
        kernel = self._kernels.get(dtype)
        if kernel is not None and x.shape == self._shape:
            return kernel
        if not self._native or dtype not in KERNEL_DTYPES or x.numel() == 0:
            return None
        if x.shape != self._shape:
            self._bind(x)
        arrays = [bound.numpy() for bound in self._bound]
        table = self.plan.rows.astype(np.float32)
        kernel = RowKernel(table, arrays, x.numel(), KERNEL_DTYPES[dtype]).run
        self._kernels[dtype] = kernel
        return kernel

    def _bind(self, x: torch.Tensor) -> None:
        """Gives the kernels histories of the state's shape, with what the history holds."""
        self._check_shape(x)
        self._shape, self._kernels = x.shape, {}
        count = self.plan.history if self.stores else 0
        self._bound = [torch.zeros((1, x.numel())) for _ in range(count)]
        for k, bound in enumerate(self._bound):
            held = self._history[k]
            if held is not None:
                bound.copy_(held.detach().reshape(1, -1))
            self._history[k] = bound.view(x.shape)

    def _check_shape(self, x: torch.Tensor) -> None:
        if self._shape is not None and self.stores:
            raise ArgumentError(
                f"the sample has shape {list(x.shape)}; the run began with {list(self._shape)}, "
                "and its later steps need what the first ones stored. Call set_timesteps before "
                "another run",
                "sample",
            )

    def _by_operations(
        self,
        number: int,
        x: torch.Tensor,
        m: torch.Tensor,
        z: torch.Tensor | None,
        want_x0: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """``run`` by PyTorch's operations, not rounded: float32, or float64 for a float64 state."""
        r = self.numbers[number]
        wide = torch.float64 if torch.float64 in (x.dtype, m.dtype) else torch.float32
        x, m = x.to(wide), m.to(wide)
        needed = want_x0 or r[col.C_0] or r[col.K_0]
        x0 = self.estimate(number, x, m) if needed else None
        past = list(zip(r[col.H_1 : col.H_3 + 1], self._history, strict=True))
        noise = (r[col.S], None if z is None else z.to(wide))
        out = _sum([(r[col.C_X], x), (r[col.C_M], m), (r[col.C_0], x0), *past, noise], x)
        if r[col.STORE] >= 0:
            past = list(zip(r[col.KH_1 : col.KH_3 + 1], self._history, strict=True))
            self._store(
                int(r[col.STORE]),
                _sum([(r[col.K_X], x), (r[col.K_M], m), (r[col.K_0], x0), *past], x),
            )
        return out, x0

    def estimate(self, number: int, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        """x0 of a row, by PyTorch's operations."""
        r = self.numbers[number]
        x0 = _sum([(r[col.P_X], x), (r[col.P_M], m)], x)
        if math.isfinite(r[col.LO]) or math.isfinite(r[col.HI]):
            x0 = x0.clamp(r[col.LO], r[col.HI])
        return x0

    def __getstate__(self) -> dict[str, Any]:
        """Copies bind kernels of their own."""
        held = [None if h is None else h.clone() for h in self._history]
        return vars(self) | {"_history": held, "_kernels": {}, "_bound": [], "_shape": None}

    def _store(self, into: int, q: torch.Tensor) -> None:
        """Keep a value; where kernels are bound they let go, and take it over when they run."""
        if self._kernels:
            self._history = [None if h is None else h.clone() for h in self._history]
            self._kernels, self._bound, self._shape = {}, [], None
        self._history[into] = q


def _crowded(plan: Plan) -> bool:
    """Whether a row that draws noise uses the third history, whose place the noise takes."""
    noisy = plan.rows[plan.rows[:, col.S] != 0.0]
    third = (noisy[:, [col.H_3, col.KH_3]] != 0.0).any() or (noisy[:, col.STORE] == 2.0).any()
    return bool(third)


def _sum(terms: list[tuple[float, torch.Tensor | None]], like: torch.Tensor) -> torch.Tensor:
    """The sum of coefficients times tensors, left to right, without those of coefficient 0."""
    total: torch.Tensor | None = None
    for coefficient, tensor in terms:
        if coefficient == 0.0:
            continue
        assert tensor is not None
        if total is None:
            total = torch.mul(tensor, coefficient)
        else:
            total = torch.add(total, tensor, alpha=coefficient)
    return torch.zeros_like(like) if total is None else total
