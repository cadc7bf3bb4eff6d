"""Speed of the fused step on one CPU thread: `python -m suites.step.measure`.

Four questions, each measured in interleaved rounds so that a busy machine slows both sides:
the step against diffusers' `DDIMScheduler.step(eta=1)`; the noise against `torch.randn`; the
step without noise against a triad's memory bandwidth; and the cost of a call from Python. What is
timed is checked first: the step must equal diffusers' result for the same noise.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.clock import call_times
from revstep.bench.compare import times_as_fast
from revstep.bench.rows import append_row, new_row
from revstep.kernels import StepBuffers, StepKernel, backend, native_isas, normal_fill
from revstep.kernels import columns as col
from revstep.kernels.buffers import numpy_views
from revstep.kernels.noise import STREAM_STEP
from suites.step.buffers import TIMESTEP, ddim_row, step_buffers

SIZES = ((1, 3072), (16, 3072), (8, 196608))  # (rows, elements per row)
PROGRAM_STEPS = 50
TOLERANCE = 2e-5  # diffusers' float32 tables and order of operations


def buffers_for(row: NDArray[np.float32], rows: int, elements: int) -> StepBuffers:
    """Buffers of a float32 network whose program repeats `row` PROGRAM_STEPS times."""
    import torch

    program = np.tile(row, (PROGRAM_STEPS, 1))
    program[:, col.NOISE] = np.arange(PROGRAM_STEPS)
    buffers = step_buffers(torch.device("cpu"), rows, elements, torch.float32, program)
    return numpy_views(buffers)


def scheduler() -> Any:
    """The DDIMScheduler of diffusers: linear betas, clipping, epsilon."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    ddim = DDIMScheduler(num_train_timesteps=1000, clip_sample=True, prediction_type="epsilon")
    ddim.set_timesteps(PROGRAM_STEPS)
    return ddim


def our_run(buf: StepBuffers) -> Callable[[], None]:
    """A whole program: PROGRAM_STEPS times `begin` and `step`."""
    kernel, counter = StepKernel(buf), buf.counter
    begin, step = kernel.begin, kernel.step

    def run() -> None:
        counter[:] = 0
        for _ in range(PROGRAM_STEPS):
            begin()
            step()

    return run


def diffusers_step(ddim: Any, buf: StepBuffers, eta: float) -> Callable[[], object]:
    """The same step by diffusers, with torch's generator for its noise."""
    import torch

    m, x = torch.from_numpy(buf.output.copy()), torch.from_numpy(buf.x.copy())
    generator = torch.Generator().manual_seed(0)
    return lambda: ddim.step(m, TIMESTEP, x, eta=eta, generator=generator)


def check_against_diffusers(ddim: Any, rows: int, elements: int) -> float:
    """Largest difference between one of our steps and diffusers' for the same noise.

    Raises:
        ValueError: They differ by more than rounding.
    """
    import torch

    buf = buffers_for(ddim_row(ddim.alphas_cumprod.double().numpy(), 1.0), rows, elements)
    z = np.empty_like(buf.x)
    normal_fill(z, buf.seed, 0, STREAM_STEP)
    m, x = torch.from_numpy(buf.output.copy()), torch.from_numpy(buf.x.copy())
    want = ddim.step(m, TIMESTEP, x, eta=1.0, variance_noise=torch.from_numpy(z)).prev_sample
    kernel = StepKernel(buf)
    kernel.begin()
    kernel.step()
    error = float(np.abs(buf.x - want.numpy()).max())
    if not error < TOLERANCE:
        raise ValueError(f"the step differs from diffusers by {error:.2g}; allowed {TOLERANCE:g}")
    return error


def measure_ratio(rows: int, elements: int, rounds: int) -> dict[str, Any]:
    """Our step against diffusers' at one size, eta 1, one thread."""
    ddim = scheduler()
    error = check_against_diffusers(ddim, rows, elements)
    buf = buffers_for(ddim_row(ddim.alphas_cumprod.double().numpy(), 1.0), rows, elements)
    ours, theirs = call_times([our_run(buf), diffusers_step(ddim, buf, 1.0)], rounds)
    ours = [seconds / PROGRAM_STEPS for seconds in ours]
    return {
        "rows": rows,
        "elements": elements,
        "step_us": round(median(ours) * 1e6, 3),
        "step_us_best": round(min(ours) * 1e6, 3),
        "diffusers_us": round(median(theirs) * 1e6, 1),
        "diffusers_us_best": round(min(theirs) * 1e6, 1),
        "ratio": round(times_as_fast(ours, theirs), 2),
        "ratio_best": round(min(theirs) / min(ours), 2),
        "max_difference": error,
    }


def measure_noise(rounds: int) -> dict[str, Any]:
    """Normals per second of each instruction set and of torch.randn, in a 768 KiB array."""
    import torch

    out, seed = np.empty((64, 3072), np.float32), np.arange(64, dtype=np.uint64)
    tensor, generator = torch.empty(64, 3072), torch.Generator().manual_seed(0)

    def fill(isa: str | None) -> Callable[[], object]:
        return lambda: normal_fill(out, seed, 7, STREAM_STEP, isa=isa)

    names = native_isas() or ("reference",)
    tasks = [fill(isa if native_isas() else None) for isa in names]
    times = call_times([*tasks, lambda: tensor.normal_(generator=generator)], 4 * rounds, 0.003)
    rates = {
        name: round(out.size / min(seconds) / 1e9, 3)
        for name, seconds in zip([*names, "torch.randn"], times, strict=True)
    }
    return {"giga_normals_per_s": rates, "of": "best round"}


def measure_bandwidth(megabytes: int, rounds: int) -> dict[str, Any]:
    """The step without noise (DDIM, eta 0) against a triad on arrays larger than the cache.

    The step moves x in and out, m in, the network's input out: 16 bytes per element; the triad
    a = b + s c 12. Both also load a line of the array that they only write: 20 and 16.
    """
    from revstep.kernels import _native

    elements = (megabytes << 20) // 4 // 8
    row = ddim_row(scheduler().alphas_cumprod.double().numpy(), 0.0)
    buf = buffers_for(row, 8, elements)
    a, b, c = (np.full(8 * elements, v, np.float32) for v in (0, 1, 2))
    kernel = StepKernel(buf)
    kernel.begin()  # once: `step` alone then runs the same row again and again
    step, triad = call_times([kernel.step, lambda: _native.triad(a, b, c, 0.5)], rounds)
    if not (a == 2).all():
        raise ValueError("the triad's result is wrong")
    n = 8 * elements

    def rate(bytes_per_element: int, seconds: list[float]) -> float:
        return round(bytes_per_element * n / median(seconds) / 1e9, 2)

    ratio = times_as_fast(step, triad)
    return {
        "megabytes_per_array": megabytes,
        "step_GB_per_s": rate(16, step),
        "triad_GB_per_s": rate(12, triad),
        "triad_share": round(16 / 12 * ratio, 3),
        "triad_share_with_write_allocate": round(20 / 16 * ratio, 3),
    }


def measure_call(rounds: int) -> dict[str, Any]:
    """Nanoseconds of a prepared `begin` and `step` of one element, from Python."""
    row = ddim_row(scheduler().alphas_cumprod.double().numpy(), 0.0)
    buf = buffers_for(row, 1, 1)
    kernel = StepKernel(buf)
    kernel.begin()
    step, begin = call_times([kernel.step, kernel.begin], rounds)
    return {"step_ns": round(median(step) * 1e9), "begin_ns": round(median(begin) * 1e9)}


def measure(rounds: int = 25, megabytes: int = 512) -> dict[str, Any]:
    """One row: the four measurements, machine and versions.

    Args:
        rounds: Interleaved rounds per measurement.
        megabytes: Size of each of the six arrays of the bandwidth measurement.

    Raises:
        ValueError: A result that is timed is wrong.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures: dict[str, Any] = {
            "kernels": backend(),
            "isa": (native_isas() or ("numpy",))[0],
            "threads": 1,
            "load_average": round(os.getloadavg()[0], 2),
            "against": "diffusers DDIMScheduler.step(eta=1), clip on, fp32, noise on; medians",
            "sizes": [measure_ratio(rows, elements, rounds) for rows, elements in SIZES],
            "noise": measure_noise(rounds),
            "call": measure_call(rounds),
        }
        if backend() == "native":
            figures["bandwidth"] = measure_bandwidth(megabytes, max(5, rounds // 3))
    finally:
        torch.set_num_threads(threads)
    return new_row("step_cpu", figures)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the row, and append it to a file if one is named."""
    parser = argparse.ArgumentParser(prog="python -m suites.step.measure", description=__doc__)
    parser.add_argument("--output", type=Path, help="append the row to this .jsonl file")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--megabytes", type=int, default=512, help="of each bandwidth array")
    options = parser.parse_args(arguments)
    row = measure(options.rounds, options.megabytes)
    print(json.dumps(row, indent=2))
    if options.output:
        append_row(options.output, row)


if __name__ == "__main__":
    main()
