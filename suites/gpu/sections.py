"""The sections of the suite, in the order of their worth, and how long each may take.

Each runs in a process of its own (``python -m suites.gpu.sections``), so that none harms another.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from suites.gpu.context import Run
from suites.gpu.rows import Suite


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
        function: Callable[[Run], None] = getattr(import_module(f"suites.gpu.{module}"), name)
        function(run)


SECTIONS = {
    "tests": Section("the repository's tests that need a GPU", 100, "gpu_tests:measure_tests"),
    "reproducible": Section(
        "bits that must agree: kernel and reference, graphs and eager steps, any batch",
        45, "checks:measure_checks",
    ),
    "kernel": Section(
        "the step kernel against this machine's copy bandwidth", 40, "kernel:measure_kernel"
    ),
    "loop": Section("time outside the network per step", 30, "loop:measure_loop"),
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


def command(suite: Suite, names: Sequence[str], until: float) -> list[str]:
    """The process that runs sections until a time of the monotonic clock."""
    return [sys.executable, "-m", "suites.gpu.sections", suite.to_json(), str(until), *names]


def run_section(name: str, run: Run, sections: Mapping[str, Section] = SECTIONS) -> int:
    """Runs one section; what it raises becomes a row. Returns how many of its cases failed."""
    try:
        sections[name].measure(run)
    except Exception as error:
        run.fail(name, error)
    return run.failures


def main() -> int:
    """0, or 1 where a case failed."""
    shared, until, *names = sys.argv[1:]
    suite = Suite.from_json(shared)
    if suite.dry:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # torch.compile then returns its argument
    import torch

    device = torch.device("cpu") if suite.dry else torch.device("cuda", 0)
    failures = [run_section(name, Run(name, suite, device, float(until))) for name in names]
    return int(any(failures))


if __name__ == "__main__":
    sys.exit(main())
