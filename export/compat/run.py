"""One run of a scheduler: its rows, where it is, and what it left to the next call."""

from __future__ import annotations

import numpy as np
import torch

from revstep.engine.errors import ProgramError
from revstep.export.compat.family import Family
from revstep.export.compat.plan import Options, Plan
from revstep.export.compat.rows import Rows
from revstep.kernels import columns as col


class Run:
    """A run from one call of the network on.

    Attributes:
        rows: Its rows.
        plan: Their plan.
        options: Those of ``step`` that the plan is for.
        begin: The scheduler's number of its first call.
        next: The row of its next call.
        where: The row of a timestep.
    """

    def __init__(
        self, family: Family, plan: Plan, options: Options, begin: int, *, gives_x0: bool
    ) -> None:
        self.rows = Rows(plan)
        self.plan = plan
        self.options = options
        self.begin = begin
        self.next = 0
        self.where = {int(t): number for number, t in enumerate(plan.timesteps)}
        self._of_output = family.of_output
        self._gives_x0 = gives_x0
        self._anchored = any(plan.anchors)
        self._last: torch.Tensor | None = None  # what the caller got
        self._state: torch.Tensor | None = None  # a copy of it, where the next call may need one
        self._version: int | None = None

    def restart(self) -> None:
        """To the first call again."""
        self.rows.restart()
        self.next = 0
        self._last = self._state = None

    def turned(self, other: Run) -> Run:
        """Another run that goes on from here: with the same calls so far.

        Raises:
            ProgramError: It stores other values.
        """
        done = self.next
        if not np.array_equal(self.plan.rows[:done], other.plan.rows[:done]):
            raise ProgramError(
                f"the timesteps of this run turn off its own grid at call {done}, and what was "
                "stored so far is not what they need; call set_timesteps before another run"
            )
        other.rows.go_on(self.rows)
        other.next, other._last = done, self._last
        other._state, other._version = self._state, self._version
        return other

    def number(self, index: int) -> int:
        """The row of the scheduler's ``index``-th call.

        Raises:
            ProgramError: It is not the next one, and the rows need those before it.
        """
        number = index - self.begin
        if number == self.next and number < len(self.plan.draws):
            return number
        last = self.begin + len(self.plan.draws) - 1
        if not 0 <= number < len(self.plan.draws) or self.rows.stores:
            raise ProgramError(
                f"this is call {index} of a run whose next one is {self.begin + self.next}, of "
                f"{self.begin} to {last}; call set_timesteps before another run"
            )
        return number

    def step(
        self, number: int, x: torch.Tensor, m: torch.Tensor, z: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One call's step: the next sample, of its dtype and new memory, and x0 if it is given.

        Args:
            number: The row.
            x: The sample.
            m: The network's output.
            z: Noise, where the row draws it.
        """
        dtype = m.dtype
        if dtype is not x.dtype:
            dtype = dtype if self._of_output else torch.promote_types(x.dtype, dtype)
            m = m.to(dtype)
        if self._anchored:
            return self._anchored_step(number, x, m, z, dtype)
        if x.dtype is not torch.float32 and (self._of_output or dtype is not torch.float64):
            x = x.float()
        out, x0 = self.rows.run(number, x, m, z, dtype, self._gives_x0)
        self.next = number + 1
        if x0 is None or (x0.dtype is dtype):
            return out, x0
        return out, x0.to(torch.float32 if self._of_output else dtype)

    def _anchored_step(
        self,
        number: int,
        x: torch.Tensor,
        m: torch.Tensor,
        z: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A step of a run some of whose calls go on from the sample before.

        There the row's x is what the call before left; of a sample that the caller changed since,
        only x0 or the slope counts, which the output is changed for.
        """
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        given, output = x.to(wide), m
        kind = self.plan.anchors[number]
        changed, beside = kind is not None and not self._unchanged(x), 0.0
        if changed:
            assert self._state is not None
            row = self.rows.numbers[number]
            left = self._state.to(wide)
            p_x, p_m = row[col.P_X], row[col.P_M]
            share = {"x0": p_x, "slope": p_x - 1.0, "output": 0.0}[str(kind)]
            if kind == "slope" and row[col.C_0]:  # of a clipped x0, (x - x0) / sigma
                share, beside = p_x, -row[col.C_0]
            m = torch.add(m.to(wide), given - left, alpha=share / p_m)
            x, made = left, wide
        else:
            x, made = given, dtype
        out, x0 = self.rows.run(number, x, m, z, made, self._gives_x0 and not changed)
        if changed:
            out = torch.add(out, given - x, alpha=beside).to(dtype)
            x0 = self.rows.estimate(number, given, output.to(wide)) if self._gives_x0 else None
        self.next = number + 1
        self._leave(number, out)
        return out, None if x0 is None else x0.to(dtype)

    def _unchanged(self, x: torch.Tensor) -> bool:
        """Whether a sample is still what the last call gave."""
        if x is not self._last:
            return False
        if x.is_inference():  # has no version
            return self._state is not None and torch.equal(x, self._state)
        return x._version == self._version

    def _leave(self, number: int, out: torch.Tensor) -> None:
        following = number + 1
        if following < len(self.plan.anchors) and self.plan.anchors[following] is not None:
            self._last, self._state = out, out.clone()
            self._version = None if out.is_inference() else out._version
        else:
            self._last = self._state = None
