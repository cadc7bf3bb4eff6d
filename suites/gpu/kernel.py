"""The step kernel against the machine's own copy bandwidth, in the same run."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from revstep.bench.clock import percentiles
from revstep.bench.compare import times_as_fast
from suites.gpu.context import Run
from suites.step.buffers import bytes_moved, one_row, step_buffers

if TYPE_CHECKING:
    import torch


ELEMENTS = 65_536  # per sample
MEGABYTES = (64, 256, 16, 1)  # of state; the targets' first
TARGET_FROM = 64
TARGETS = {True: 0.85, False: 0.95}  # with noise, without


def measure_kernel(run: Run) -> None:
    """Every size with and without noise; at 64 MB the three dtypes, history, and aot kernels."""
    for megabytes in run.pick(MEGABYTES, (1,)):
        for noise in (True, False):
            _case(run, megabytes, "float16", noise=noise)
    for dtype in ("bfloat16", "float32"):
        for noise in (True, False):
            _case(run, run.pick(64, 1), dtype, noise=noise)
    _case(run, run.pick(64, 1), "float16", noise=True, history=True)
    if why := _no_compiled_kernels(run):
        run.skip("step, compiled ahead of time", why)
    else:
        _case(run, 64, "float16", noise=True, kernels="aot")


def _no_compiled_kernels(run: Run) -> str | None:
    """Why those can't be launched here."""
    if not run.on_gpu:
        return "no GPU"
    try:
        found = importlib.util.find_spec("cuda.core")
    except ImportError:  # no package cuda at all
        found = None
    return None if found else "cuda.core is not installed"


def _case(run: Run, megabytes: int, dtype: str, *, noise: bool, **options: Any) -> None:
    name = f"step, {megabytes} MB of state, {dtype}, {'noise' if noise else 'no noise'}"
    if options.get("history"):
        name += ", one history"
    if options.get("kernels"):
        name += ", compiled ahead of time"
    run.attempt(
        name,
        10 if "kernels" in options else 3,
        _share_of_copy,
        name,
        megabytes,
        dtype,
        noise,
        options,
    )


def _share_of_copy(
    run: Run, name: str, megabytes: int, dtype: str, noise: bool, options: dict[str, Any]
) -> None:
    """One row: copy time / step time, at equal bytes."""
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    history = bool(options.get("history"))
    rows, elements = (megabytes << 18) // ELEMENTS, run.pick(ELEMENTS, 1024)
    moved = bytes_moved(rows * elements, kind, history=history)
    rounds = run.pick(200, 2)
    kernels = options.get("kernels", "triton")
    program = one_row(noise=noise, history=history)
    buffers = step_buffers(run.device, rows, elements, kind, program, int(history))
    with (
        tempfile.TemporaryDirectory() as folder,
        run.in_use(kernels=kernels, folder=Path(folder)) as device,
    ):
        if kernels == "aot":
            _write_kernels(Path(folder), dtype, elements)
        kernel = device.prepare(buffers)
        kernel.begin()
        source = torch.ones(moved // 8, device=run.device)  # read and written: the same bytes
        target = torch.zeros_like(source)
        tasks = [kernel.step, lambda: target.copy_(source)]
        step, copy = run.call_times(tasks, rounds, flush_l2=True)
        device.mark().wait()
    if not (bool(torch.isfinite(buffers.x).all()) and bool((target == 1).all())):
        raise ValueError("a timed call left a wrong result")
    run.measured(
        name,
        times_as_fast(step, copy),
        "of the copy's bandwidth",
        at_least=TARGETS[noise] if megabytes >= TARGET_FROM else None,
        peer="torch's copy_ of as many bytes, in turns",
        figures={
            "step_GB_per_s": moved / median(step) / 1e9,
            "copy_GB_per_s": moved / median(copy) / 1e9,
            "step_us": percentiles(step),
            "copy_us": percentiles(copy),
        },
        parameters={
            "bytes": moved, "rows": rows, "elements": elements, "network_dtype": dtype,
            "noise": noise, "history": int(history), "kernels": kernels, "rounds": rounds,
            "philox_calls_a_block": getattr(kernel, "calls", None), "l2": "flushed before each",
        },
    )  # fmt: skip


def _write_kernels(folder: Path, dtype: str, elements: int) -> None:
    import torch

    from revstep.kernels.gpu.aot import KNOWN, write_kernels

    major, minor = torch.cuda.get_device_capability()
    capabilities = [c for c in KNOWN if c == 10 * major + minor]  # else the portable PTX runs
    write_kernels(folder, [dtype], elements, capabilities=capabilities)
