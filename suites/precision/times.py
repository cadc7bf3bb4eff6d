"""What bf16 does to times in OpenVINO: `python -m suites.precision.times --output FILE.jsonl`.

One call at several times, of the same noise, in bf16 as OpenVINO compiles the graph, and as revstep
has it, which leaves what a row's scalars decide in float32. Needs a processor that has bf16.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.example import example_values
from revstep.bench.rows import append_row, new_row
from revstep.engine.backends.ov import library
from revstep.engine.backends.ov.compiled import name_in
from revstep.engine.backends.ov.denoiser import OpenVinoDenoiser
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.bundle.reader import Bundle
from suites.precision.networks import FASHION
from suites.support import support

ROOT = Path(__file__).resolve().parents[2]
Array = NDArray[Any]
Call = Callable[[Mapping[str, Array]], Array]
ROWS = 4
TIMES = (0.0, 10.0, 100.0, 250.0, 500.0, 750.0, 900.0, 999.0)
SEED = 1
PLAIN, OURS = "all bf16", "times in float32"


def _fashion(path: Path) -> None:
    from revstep.export import export_diffusers

    export_diffusers(ROOT / FASHION, path, null_class=10)


def _small(path: Path) -> None:
    from revstep.export import export_module

    module, spec, decoder = support("toys").build("image")
    export_module(module, spec, path, decoder=decoder)


NETWORKS: dict[str, Callable[[Path], None]] = {
    "bundled U-Net": _fashion,
    "small image network": _small,
}


def measure(name: str) -> dict[str, Any]:
    """The fields of a network's row: ``errors``, by way, at each of ``times``.

    An error is the RMS of what a call differs by from that in fp32, over the standard deviation.
    """
    with tempfile.TemporaryDirectory() as folder:
        NETWORKS[name](Path(folder) / "x.revstep")
        bundle = Bundle.open(Path(folder) / "x.revstep")
        feeds, time = _inputs(bundle), bundle.spec.time.name
        want = _outputs(_ours(bundle, "fp32"), feeds, time)
        ways = {PLAIN: _plain(bundle, feeds), OURS: _ours(bundle, "bf16")}
        errors = {
            way: [_error(g, w) for g, w in zip(_outputs(call, feeds, time), want, strict=True)]
            for way, call in ways.items()
        }
    return {
        "part": "times", "network": name, "rows": ROWS, "seed": SEED, "times": TIMES,
        "errors": errors,
    }  # fmt: skip


def _inputs(bundle: Bundle) -> dict[str, Array]:
    spec = bundle.spec
    x = np.random.default_rng(SEED).standard_normal((ROWS, *spec.shape)).astype(np.float32)
    return {spec.name: x, **example_values(spec.conditions, ROWS)}


def _outputs(call: Call, feeds: Mapping[str, Array], time: str) -> list[Array]:
    return [call({**feeds, time: np.full(ROWS, t, np.float32)}) for t in TIMES]


def _ours(bundle: Bundle, precision: str) -> Call:
    """As ``load(backend="openvino")`` has it."""
    denoiser = OpenVinoDenoiser(bundle.graph("fp32"), bundle.spec, precision=precision, threads=1)
    buffers = NetworkBuffers.allocate(bundle.spec, ROWS)
    bound, inputs = denoiser.bind(buffers), buffers.inputs(bundle.spec)

    def call(feeds: Mapping[str, Array]) -> Array:
        for name, value in feeds.items():
            inputs[name][...] = value
        bound()
        return np.array(buffers.out, dtype=np.float64)

    return call


def _plain(bundle: Bundle, feeds: Mapping[str, Array]) -> Call:
    """As OpenVINO compiles the whole graph in bf16."""
    library.check_precision("bf16")
    model = library.core().read_model(str(bundle.graph("fp32")))
    shapes = {**{n: v.shape for n, v in feeds.items()}, bundle.spec.time.name: (ROWS,)}
    model.reshape({port: list(shapes[name_in(port, shapes)]) for port in model.inputs})
    compiled = library.core().compile_model(model, "CPU", library.properties("bf16", 1))
    library.check_taken(compiled, "bf16")
    return lambda given: np.array(compiled(dict(given))[0], dtype=np.float64)


def _error(got: Array, want: Array) -> float:
    return float(np.sqrt(np.mean((got - want) ** 2)) / want.std())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print each row, and append it to a file if one is named."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.precision.times",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    parser.add_argument("--network", action="append", choices=list(NETWORKS))
    options = parser.parse_args(arguments)
    for name in options.network or NETWORKS:
        row = new_row("precision", measure(name), ROOT)
        for way, errors in row["errors"].items():
            print(f"{name}, {way}: {' '.join(f'{error:.4f}' for error in errors)}", flush=True)
        if options.output:
            append_row(options.output, row)


if __name__ == "__main__":
    main()
