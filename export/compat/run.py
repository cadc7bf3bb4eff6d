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
        draws: Whether each row draws noise.
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
        self.draws = plan.draws
        self.where = {int(t): number for number, t in enumerate(plan.timesteps)}
        self._result = family.result
        self._of_output = family.result == "output"  # x0 is float32 then
        self._gives_x0 = gives_x0
        self._anchored = any(plan.anchors)
        self._last: torch.Tensor | None = None  # what the caller got
        self._state: torch.Tensor | None = None  # a copy, where the next call goes on from it
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
        if number == self.next and number < len(self.draws):
            return number
        last = self.begin + len(self.draws) - 1
        if not 0 <= number < len(self.draws) or self.rows.stores:
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
            promoted = torch.promote_types(x.dtype, dtype)
            dtype = {"promoted": promoted, "output": dtype, "sample": x.dtype}[self._result]
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
        kind, wide = self.plan.anchors[number], torch.float32
        if dtype is torch.float64:
            wide = dtype
        changed, given, output, beside = False, x, m, 0.0
        if kind is not None and not self._unchanged(x):
            assert self._state is not None
            changed, given, output, x = True, x.to(wide), m.to(wide), self._state
            row = self.rows.numbers[number]
            share = {"x0": row[col.P_X], "slope": row[col.P_X] - 1.0, "output": 0.0}[kind]
            if kind == "slope" and row[col.C_0]:  # of a clipped x0, (x - x0) / sigma
                share, beside = row[col.P_X], -row[col.C_0]
            m = torch.add(output, given - x, alpha=share / row[col.P_M])
        elif x.dtype is not wide:
            x = x.to(wide)
        following = number + 1
        goes_on = following < len(self.plan.anchors) and self.plan.anchors[following] is not None
        room = self._room(x) if goes_on else None
        if changed:
            out, x0 = self.rows.run(number, x, m, z, wide, False)
            out = torch.add(out, given - x, alpha=beside)
            x0 = self.rows.estimate(number, given, output) if self._gives_x0 else None
            if room is not None:
                room.copy_(out.detach())
            out = out.to(dtype)
        else:
            out, x0 = self.rows.run(number, x, m, z, dtype, self._gives_x0, room)
        self.next = following
        self._last = out if goes_on and dtype is wide else None  # a rounded one is a changed one
        if self._last is not None:
            self._version = None if out.is_inference() else out._version
        if x0 is None or x0.dtype is dtype:
            return out, x0
        return out, x0.to(dtype)

    def _unchanged(self, x: torch.Tensor) -> bool:
        """Whether a sample is still what the last call gave."""
        if x is not self._last:
            return False
        if x.is_inference():  # has no version
            return self._state is not None and torch.equal(x, self._state)
        return x._version == self._version

    def _room(self, x: torch.Tensor) -> torch.Tensor:
        """Where the next state is kept beside the caller's; ``x`` may be what is kept now."""
        room = self._state
        if room is None or room is x or room.shape != x.shape or room.dtype is not x.dtype:
            room = torch.empty_like(x, memory_format=torch.contiguous_format)
            self._state = room
        return room
