"""The sections of the suite, in the order of their worth, and how long each may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module

from suites.gpu.context import Run

__all__ = ["SECTIONS", "Section"]


@dataclasses.dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        what: For ``--help``.
        seconds: It ends by then; what no longer fits is skipped.
        where: ``module:function`` below this package.
    """

    what: str
    seconds: int
    where: str

    def measure(self, run: Run) -> None:
        """Runs it, in this process."""
        module, _, name = self.where.partition(":")
        function: Callable[[Run], None] = getattr(import_module(f"{__package__}.{module}"), name)
        function(run)


SECTIONS = {
    "tests": Section("the repository's tests that need a GPU", 100, "gpu_tests:measure_tests"),
    "reproducible": Section(
        "bits that must agree: kernel and reference, graphs and eager steps, any company",
        45, "checks:measure_checks",
    ),
    "kernel": Section(
        "the step kernel against this machine's copy bandwidth", 40, "kernel:measure_kernel"
    ),
    "loop": Section("time outside the network a step", 30, "loop:measure_loop"),
    "e2e": Section(
        "DDIM-50 runs against diffusers, eager and compiled", 130, "runs:measure_runs"
    ),
    "chain": Section(
        "the step against the same chain in PyTorch operators", 30, "chain:measure_chain"
    ),
    "memory": Section("peak memory at batch 64", 25, "memory:measure_memory"),
    "startup": Section("from a process's start to its first sample", 30, "startup:measure_startup"),
    "backends": Section(
        "ONNX Runtime and TensorRT, where installed", 60, "backends:measure_backends"
    ),
}  # fmt: skip
