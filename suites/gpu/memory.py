"""Peak memory of the device for a run at batch 64: revstep's engine, and the peer's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from suites.gpu.context import Run
from suites.gpu.networks import NETWORKS, make_network
from suites.gpu.peers import SampleBatch, our_run, peer_name, peer_run, torch_engine

BATCH = 64
STEPS = 5
MIB = 1 << 20


def measure_memory(run: Run) -> None:
    """Each network in fp16, each side by itself, weights included."""
    for name in run.pick(tuple(NETWORKS), ("policy",)):
        run.attempt(f"{name}, batch {BATCH}", 8, _peaks, name)


def _peaks(run: Run, name: str) -> None:
    network, batch, steps = make_network(run, name), run.pick(BATCH, 2), run.pick(STEPS, 1)

    def ours() -> SampleBatch:
        engine = torch_engine(run, network, "fp16", buckets=(batch,), unroll=(steps,))
        return our_run(engine, batch, steps)

    def theirs() -> SampleBatch:
        return peer_run(run, network, "fp16", batch, steps)

    sides: dict[str, tuple[Callable[[], SampleBatch], str | None]] = {
        "revstep": (ours, None),
        "peer": (theirs, peer_name()),
    }
    for side, (make, peer) in sides.items():
        allocated, reserved = _peak(run, make)
        run.measured(
            f"{name}, batch {batch}, fp16: {side}",
            reserved / MIB,
            "MiB reserved",
            peer=peer,
            figures={"allocated_MiB": allocated / MIB, "reserved_MiB": reserved / MIB},
            parameters={**network.parameters, "batch": batch, "precision": "fp16", "steps": steps},
        )


def _peak(run: Run, make: Callable[[], SampleBatch]) -> tuple[int, int]:
    """Peak bytes allocated and reserved; 0 on a CPU."""
    run.free()
    cuda = _cuda_memory(run)
    if cuda is not None:
        cuda.reset_peak_memory_stats(run.device)
    sample = make()
    sample()
    run.synchronize()
    found = (0, 0)
    if cuda is not None:
        found = cuda.max_memory_allocated(run.device), cuda.max_memory_reserved(run.device)
    del sample
    run.free()
    return found


def _cuda_memory(run: Run) -> Any:
    import torch

    return torch.cuda if run.on_gpu else None
