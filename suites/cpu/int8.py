"""Why int8 is not offered: `python -m suites.cpu.int8 --output bench/results/cpu.jsonl`.

Post-training quantisation of the bundled U-Net with NNCF, calibrated on the network's own
trajectories, beside fp32 and bf16: score of the same images, and the time of a call. It needs an
environment with ``nncf`` and ``openvino``, which revstep itself doesn't.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.clock import run_times
from revstep.bench.compare import times_as_fast
from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.machine import package_version
from suites.cpu.context import Measurement, last_core
from suites.cpu.quality import GUIDANCE, IMAGES, STEPS, score

SAMPLES = 16  # a call: twice as many rows
PRESET = "MIXED"


class Recording:
    """A network that keeps what it is called with.

    Args:
        denoiser: The network.

    Attributes:
        inputs: Of every call, by the names that the spec gives them.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self.spec = denoiser.spec
        self.inputs: list[dict[str, NDArray[Any]]] = []

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """The network's call, after a copy of its inputs."""
        network = self._denoiser.bind(buffers)

        def call() -> None:
            given: Any = buffers.inputs(self.spec)
            self.inputs.append({name: np.array(value) for name, value in given.items()})
            network()

        return call

    def describe(self) -> dict[str, Any]:
        """The network's."""
        return self._denoiser.describe()


class Compiled:
    """A model in OpenVINO, of one thread and a number of rows.

    Args:
        model: OpenVINO's.
        spec: The network's.
        precision: ``INFERENCE_PRECISION_HINT``: of what is not int8.
    """

    def __init__(self, model: Any, spec: DenoiserSpec, precision: str) -> None:
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
        self.spec = spec
        self._openvino = importlib.import_module("openvino")
        self._model = self._openvino.Core().compile_model(model, "CPU", options)

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call on the buffers' own memory."""
        request = self._model.create_infer_request()
        shared = partial(self._openvino.Tensor, shared_memory=True)
        tensors = {name: shared(value) for name, value in buffers.inputs(self.spec).items()}
        for name, tensor in tensors.items():
            request.set_tensor(name, tensor)
        request.set_output_tensor(0, shared(buffers.out))
        return partial(_infer, request, (buffers, tensors))

    def describe(self) -> dict[str, Any]:
        """Its backend."""
        return {"backend": "openvino"}


def _infer(request: Any, memory: object) -> None:
    """One call; the request only points to the memory."""
    request.infer()


def quantised(bundle: Bundle) -> dict[str, Denoiser]:
    """The bundle's network in fp32, bf16 and int8."""
    nncf, openvino = map(importlib.import_module, ("nncf", "openvino"))
    recording = Recording(OrtDenoiser(bundle.graph("fp32"), bundle.spec, threads=1))
    draw(Engine(recording), 2 * SAMPLES)
    model = openvino.Core().read_model(bundle.graph("fp32"))
    data = nncf.Dataset(recording.inputs)
    preset = getattr(nncf.QuantizationPreset, PRESET)
    reduced = nncf.quantize(model, data, preset=preset, subset_size=len(recording.inputs))
    spec = bundle.spec
    return {
        "fp32": Compiled(model, spec, "f32"),
        "bf16": Compiled(model, spec, "bf16"),
        "int8": Compiled(reduced, spec, "f32"),
    }


def draw(engine: Engine, count: int) -> NDArray[np.float32]:
    """Images of all classes in turn, as those of the quality part."""
    drawn = engine.sample(
        seed=5000, sampler="ddim", steps=STEPS, guidance=GUIDANCE, batch_size=SAMPLES,
        conditions={"class_labels": np.arange(count) % 10},
    )  # fmt: skip
    return np.clip(drawn.x, -1.0, 1.0)


def measured(run: Measurement, count: int) -> dict[str, Any]:
    """Scores and times, as a row has them."""
    networks = quantised(Bundle.open(run.bundle("unet")))
    scores = {}
    for name, network in networks.items():
        path = run.folder / f"{name}.npy"
        np.save(path, draw(Engine(network), count))
        scores[name] = score(path)
    calls = []
    for network in networks.values():
        calls.append(network.bind(NetworkBuffers.allocate(network.spec, 2 * SAMPLES)))
        calls[-1]()
    times = dict(zip(networks, run_times(calls, seconds=20.0, minimum=3), strict=True))
    return {
        "count": count,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "preset": PRESET,
        "nncf": package_version("nncf"),
        "scores": scores,
        "as_fast_as_fp32": {n: times_as_fast(t, times["fp32"]) for n, t in times.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the row, and append it to a file if one is named."""
    parser = argparse.ArgumentParser(prog="python -m suites.cpu.int8", description=__doc__)
    parser.add_argument("--output", type=Path, help="append the row to this .jsonl file")
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args(arguments)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory() as folder:
        run = Measurement(Path(folder), last_core(), now, output=options.output)
        run.case("int8", "unet", lambda: measured(run, options.images))
    print(run.rows[-1])


if __name__ == "__main__":
    main()
