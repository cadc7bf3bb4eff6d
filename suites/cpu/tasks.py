"""What one side of a comparison runs, by public names alone: an earlier build runs it too.

Each function takes plain values, as they come from another process, and gives a ``Task``.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 5000
LONG = 1000  # steps of the run that shows what a step costs


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to time.

    Attributes:
        call: One run; its result is an array, or nothing that can be compared.
        measure: Seconds of one measurement; None: of one call.
        told: What runs, as JSON values.
        keep: What the call needs beside it: a folder.
    """

    call: Callable[[], Any]
    measure: Callable[[], float] | None = None
    told: dict[str, Any] = dataclasses.field(default_factory=dict)
    keep: object = None

    def seconds(self) -> float:
        """One measurement."""
        return seconds_of(self.call) if self.measure is None else self.measure()


def seconds_of(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    begun = perf_counter()
    call()
    return perf_counter() - begun


def sample(
    bundle: str,
    batch: int,
    steps: int,
    guidance: float = 1.0,
    *,
    prepared: bool = False,
    backend: str = "auto",
    precision: str = "fp32",
) -> Task:
    """A whole DDIM run with the conventions of diffusers, from the noise of ``noise_of``."""
    import revstep

    engine: Any = revstep.load(
        bundle, backend=backend, device="cpu", precision=precision, threads=1
    )
    asked: dict[str, Any] = {
        "sampler": revstep.samplers.DDIM(epsilon="keep"),
        "steps": steps,
        "guidance": guidance,
        "noise": noise_of(engine.spec, batch),
        "conditions": conditions_of(engine.spec, batch),
        "compat": "diffusers",
    }
    if not prepared:
        return Task(lambda: engine.sample(batch, **asked).x, told=engine.describe())
    run = engine.prepare(batch, **asked)
    return Task(lambda: run(seed=1).x, told=engine.describe())


def bare(bundle: str, batch: int, steps: int) -> Task:
    """As many calls of the bundle's graph in ONNX Runtime as a run has, bound to one memory."""
    import onnxruntime as ort

    import revstep

    opened = revstep.Bundle.open(bundle)
    spec, options = opened.spec, ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        str(opened.graph("fp32")), options, providers=["CPUExecutionProvider"]
    )
    inputs = {
        spec.name: noise_of(spec, batch),
        spec.time.name: np.full(batch, 10.0, np.float32),
        **conditions_of(spec, batch),
    }
    out = np.empty((batch, *spec.shape), np.float32)
    binding = session.io_binding()
    for name, a in inputs.items():
        binding.bind_input(name, "cpu", 0, a.dtype, a.shape, a.ctypes.data)
    output = session.get_outputs()[0].name
    binding.bind_output(output, "cpu", 0, out.dtype, out.shape, out.ctypes.data)
    run = session.run_with_iobinding

    def calls() -> None:
        for _ in range(steps):
            run(binding)

    return Task(calls, keep=(inputs, out))  # which the session only points to


def loop(*, fixed: bool, prepared: bool = False) -> Task:
    """The loop with a network that does nothing, on one sample of 32 numbers.

    Args:
        fixed: Seconds of a run of one step; else of each further step of a long one.
        prepared: By a prepared run.
    """
    import revstep

    engine: Any = revstep.Engine(Nothing(small_spec()))

    def run_of(steps: int) -> Callable[[], Any]:
        if prepared:
            run: Callable[[], Any] = engine.prepare(1, steps=steps, seed=1)
            return run
        return lambda: engine.sample(1, steps=steps, seed=1)

    short, long = run_of(1), run_of(LONG)
    if fixed:
        return Task(short)

    def a_step() -> float:
        least = min(seconds_of(short) for _ in range(3))
        return (seconds_of(long) - least) / (LONG - 1)

    return Task(long, a_step)


def trace(sampler: str, steps: int) -> Task:
    """A sampler traced over its grid, each time for a spec that was not seen before."""
    import revstep

    numbers = itertools.count()

    def once() -> object:
        return revstep.build_program(small_spec(1.0 + 1e-3 * next(numbers)), sampler, steps)

    return Task(once)


def images(bundle: str, count: int, steps: int, guidance: float, precision: str) -> Task:
    """Images of the bundled U-Net for its score: classes 0 to 9 in turn."""
    import revstep

    engine = revstep.load(bundle, device="cpu", precision=precision)
    labels = {"class_labels": np.arange(count) % 10}

    def draw() -> NDArray[np.float32]:
        drawn = engine.sample(
            seed=SEED, sampler="ddim", steps=steps, guidance=guidance, conditions=labels,
            batch_size=16,
        )  # fmt: skip
        return np.clip(drawn.x, -1.0, 1.0)  # as pictures are

    return Task(draw, told=engine.describe())


TASKS: dict[str, Callable[..., Task]] = {
    "sample": sample,
    "bare": bare,
    "loop": loop,
    "trace": trace,
    "images": images,
}


def conditions_of(spec: Any, batch: int) -> dict[str, NDArray[Any]]:
    """Conditions of ``batch`` samples: classes in turn, and small numbers.

    ``spec`` may be of an earlier build.
    """
    found: dict[str, NDArray[Any]] = {}
    for c in spec.conditions:
        if c.classes is not None:
            found[c.name] = np.arange(batch) % (c.classes - 1)
        else:
            draw = np.random.default_rng(0).uniform(-1, 1, (batch, *c.shape))
            found[c.name] = draw.astype(np.float32)
    return found


def noise_of(spec: Any, batch: int) -> NDArray[np.float32]:
    """The start noise (batch, *shape) of every side."""
    return np.random.default_rng(1).standard_normal((batch, *spec.shape)).astype(np.float32)


def small_spec(limit: float = 1.0) -> Any:
    """A denoiser of 32 numbers, with values up to ``limit``."""
    import revstep

    return revstep.DenoiserSpec(
        shape=(32,), schedule=_schedule(), prediction="epsilon", value_range=(-limit, limit)
    )


def _schedule() -> Any:
    try:
        home = importlib.import_module("revstep.schedules")
    except ImportError:  # an earlier build
        home = importlib.import_module("revstep")
    return home.VPSchedule()


class Nothing:
    """A network that does nothing, on numpy arrays."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def bind(self, buffers: Any) -> Callable[[], None]:
        """A call that does nothing; the output stays as it is."""
        return lambda: None

    def describe(self) -> dict[str, Any]:
        """What runs."""
        return {"backend": "nothing"}
