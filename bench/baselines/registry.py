"""The baselines by name: what each needs, and what makes it.

A new one is a file with its ``make``, and an entry in ``BASELINES``.
"""

from __future__ import annotations

import dataclasses
from importlib import import_module

from revstep.bench.baselines.protocol import Baseline, Given
from revstep.bench.baselines.schedulers import Scheduling


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One baseline.

    Attributes:
        file: Its file in this package.
        packages: What must be installed.
        module: Whether it runs the PyTorch module, which a bundle doesn't hold.
        folder: Whether it takes the scheduler of a diffusers folder.
    """

    file: str
    packages: tuple[str, ...]
    module: bool = False
    folder: bool = False


BASELINES = {
    "diffusers": Entry("diffusers", ("torch", "diffusers"), module=True, folder=True),
    "torch-eager": Entry("torch_eager", ("torch",), module=True),
    "torch-compile": Entry("torch_compile", ("torch",), module=True),
    "onnxruntime": Entry("onnxruntime", ("onnxruntime",)),
    "openvino": Entry("openvino", ("openvino",)),
}


def make_baseline(name: str, given: Given, scheduling: Scheduling | None) -> Baseline:
    """The baseline of that name.

    Args:
        name: One of ``BASELINES``.
        given: What it draws.
        scheduling: The scheduler, where it takes one.

    Raises:
        BackendError: It can't do the engine's work here.
        ValueError, ExportError: The module is not the bundle's.
    """
    entry = BASELINES[name]
    make = import_module(f"revstep.bench.baselines.{entry.file}").make
    made: Baseline = make(given, scheduling) if entry.folder else make(given)
    return made
