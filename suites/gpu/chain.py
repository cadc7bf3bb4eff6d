"""The step kernel against the same chain of operators in PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from revstep.bench.clock import percentiles
from revstep.bench.compare import times_as_fast
from revstep.engine.devices.protocol import Device
from revstep.kernels import columns as col
from suites.gpu.context import Run
from suites.step.buffers import one_row, step_buffers

if TYPE_CHECKING:
    import torch

    from revstep.kernels.buffers import StepBuffers


SIZES = ((256, 65_536), (16, 3072), (1, 112))  # (samples, elements): 64 MB of state, CIFAR, policy
TOLERANCE = 1e-5
CALLS = 20  # back to back, where the host's part is to be seen

Chain = Callable[[], "tuple[torch.Tensor, torch.Tensor]"]


def measure_chain(run: Run) -> None:
    """Each size with and without noise, in eager operators and in ``torch.compile``."""
    for rows, elements in run.pick(SIZES, ((2, 40),)):
        for noise in (True, False):
            name = f"{rows} x {elements}, {'noise' if noise else 'no noise'}"
            run.attempt(name, 8, _against_torch, name, rows, elements, noise)


def _against_torch(run: Run, name: str, rows: int, elements: int, noise: bool) -> None:
    import torch

    with run.in_use() as device:
        buffers = step_buffers(run.device, rows, elements, torch.float16, one_row(noise=noise))
        eager = make_chain(buffers, torch.randn_like if noise else None)
        compiled = torch.compile(eager, dynamic=False)
        kernel = device.prepare(buffers)
        kernel.begin()
        if not noise:
            _check(run, device, kernel.step, eager, buffers)
        tasks = [kernel.step, eager, compiled]
        times = run.call_times(tasks, run.pick(200, 2), flush_l2=True)
        host = run.call_times([_often(task) for task in tasks], run.pick(30, 1))
    ours, *theirs = times
    ours_called, *theirs_called = host
    for way, device_s, called_s in zip(
        ("eager operators", "torch.compile"), theirs, theirs_called, strict=True
    ):
        run.measured(
            f"{name}, against {way}",
            times_as_fast(ours, device_s),
            "times as fast",
            peer=f"the same chain in PyTorch, {way}, coefficients as Python numbers",
            figures={
                "step_us": percentiles(ours),
                "peer_us": percentiles(device_s),
                "step_called_us": median(ours_called) / CALLS * 1e6,
                "peer_called_us": median(called_s) / CALLS * 1e6,
            },
            parameters={
                "rows": rows, "elements": elements, "network_dtype": "float16", "noise": noise,
                "l2": "flushed before each", "called": f"{CALLS} calls back to back",
            },
        )  # fmt: skip


def _often(task: Callable[[], object]) -> Callable[[], object]:
    def calls() -> None:
        for _ in range(CALLS):
            task()

    return calls


def make_chain(buffers: StepBuffers, noise: Callable[[torch.Tensor], torch.Tensor] | None) -> Chain:
    """The row's arithmetic in PyTorch operators: the next state and the network's next input."""
    x, m, dtype = buffers.x.clone(), buffers.output, buffers.net_x.dtype
    r = [float(v) for v in buffers.table[0].cpu()]

    def chain() -> tuple[torch.Tensor, torch.Tensor]:
        wide = m.float()
        x0 = (r[col.P_X] * x + r[col.P_M] * wide).clamp(r[col.LO], r[col.HI])
        new = r[col.C_M] * wide + r[col.C_0] * x0
        if noise is not None:
            new = new + r[col.S] * noise(x)
        return new, new.to(dtype)

    return chain


def _check(
    run: Run, device: Device, step: Callable[[], object], chain: Chain, buffers: StepBuffers
) -> None:
    want, _ = chain()
    step()
    device.mark().wait()
    error = float((buffers.x - want).abs().max())
    if not error < TOLERANCE:
        raise ValueError(f"the step and the chain differ by {error:.2g}; allowed {TOLERANCE:g}")
