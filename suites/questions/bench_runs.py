"""What does a whole run cost? Beside the same run by hand in numpy, and by diffusers.

The network is the same: as it was exported, in ONNX Runtime, on both sides of the first; the module
in eager PyTorch for diffusers. What `revstep compile` adds is the CPU suite's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import revstep
from suites.cpu import tasks
from suites.cpu.peers import peer
from suites.questions.compare import Compare
from suites.questions.naive import apart, ddim_loop, session_network

pytest.importorskip("diffusers")
pytest.importorskip("onnxruntime")
STEPS = 20
TOLERANCE = 1e-2  # of the RMS: random weights part from rounding over many steps
CASES = (
    ("mlp", 1, 1.0), ("mlp", 16, 1.0), ("policy", 1, 1.0), ("policy", 16, 1.0), ("dit", 1, 1.0),
    ("unet", 1, 1.5),
)  # fmt: skip


@pytest.mark.parametrize(("network", "batch", "guidance"), CASES)
def test_runs(
    compare: Compare, bundle: Callable[[str, bool], Path], network: str, batch: int, guidance: float
) -> None:
    tiny = compare.trial
    path = bundle(network, tiny)
    opened = revstep.Bundle.open(path)
    spec = opened.spec
    ours = tasks.sample(str(path), batch, STEPS, guidance, backend="onnxruntime").call
    conditions = tasks.conditions_of(spec, batch)
    by_hand = session_network(str(opened.graph("fp32")), spec, conditions, guidance)
    others = {
        "numpy and ONNX Runtime": ddim_loop(spec, by_hand, tasks.noise_of(spec, batch), STEPS),
        "diffusers": peer(network, batch, STEPS, guidance, tiny=tiny).call,
    }
    error = apart(ours(), *(other() for other in others.values()))
    assert error < TOLERANCE
    guided = "" if guidance == 1.0 else f", guidance {guidance:g}"
    name = f"{network}, batch {batch}, DDIM-{STEPS}{guided}"
    compare(name, ours, others, apart=error)
