"""The worker of `native_step`: one step of one row, on the kernels of an instruction set."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from revstep.kernels import StepKernel, native_isas
from suites.regressions.worker import make
from suites.step.buffers import host_buffers, one_row

ELEMENTS = 4096
ROWS = {
    "DDIM": one_row(noise=False),
    "DDPM": one_row(noise=True),
    "DPM-Solver++(2M)": one_row(noise=False, history=True),
}
ISAS = ("avx2", "baseline")


def tasks() -> dict[str, Callable[[], object]]:
    """``ISA, ROW`` -> its step of ELEMENTS numbers; the best kernels are those chosen unasked."""
    found: dict[str, Callable[[], object]] = {}
    for isa, (name, row) in itertools.product(ISAS, ROWS.items()):
        buffers = host_buffers(1, ELEMENTS, row, history=int("2M" in name))
        kernel = StepKernel(buffers, isa=None if isa == native_isas()[0] else isa)
        kernel.begin()  # once: `step` alone then runs the same row again and again
        found[f"{isa}, {name}"] = kernel.step
    return found


if __name__ == "__main__":
    make(tasks())
