"""Ways to make a graph fp16 or bf16, on five networks: error, what loads it, what it keeps.

The converters of others live in an environment of their own, as they need other versions of onnx
and ONNX Runtime than revstep: ``pip install 'nvidia-modelopt[onnx]'`` there brings all of them.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import math
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from revstep.bench.rows import append_row, new_row
from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.backends.protocol import Denoiser
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import RevstepError
from revstep.export.parity.bounds import forward_error
from revstep.export.parity.runs import forward_rows
from revstep.export.precision.nodes import PRODUCTS, keep
from revstep.export.precision.ranges import RangeDenoiser, add_ranges
from revstep.export.precision.types import emulate, save_graph
from suites.precision.networks import NETWORKS, make

Converter = Callable[[Path, Path, str, Path, list[str]], None]
"""(fp32 graph, target, precision, calibration .npz, nodes to keep in float32)."""

TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
LIMIT = 300.0  # seconds of one conversion
FLOAT16 = """
import sys, json, importlib, onnx
module, source, target, kept = sys.argv[1:]
kept = json.loads(kept)
convert = importlib.import_module(module).convert_float_to_float16
onnx.save(convert(onnx.load(source), keep_io_types=True, node_block_list=kept or None), target)
"""


def measure(python: Path | None, name: str) -> Iterator[dict[str, Any]]:
    """A row for every precision and converter on one network.

    Args:
        python: Interpreter of the environment with the others' converters; None: revstep's alone.
        name: Of ``NETWORKS``.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        start = time.perf_counter()
        bundle = make(name, work / "bundle.revstep")
        seconds = time.perf_counter() - start
        for precision in TYPES:
            own = _row(bundle, bundle.graph(precision), precision, work)
            own |= {"kept": bundle.manifest["provenance"]["precision"][precision]["fp32"]}
            yield {"network": name, "converter": "revstep", "export_seconds": seconds, **own}
            for converter, convert in _others(python).items():
                row = _converted(bundle, convert, precision, work)
                yield {"network": name, "converter": converter, **row}


def _others(python: Path | None) -> dict[str, Converter]:
    """The converters of other libraries, alone and given the nodes that revstep keeps."""
    if python is None:
        return {}
    found: dict[str, Converter] = {}
    for guided in (False, True):
        suffix = ", told the nodes" if guided else ""
        found[f"AutoCast{suffix}"] = _autocast(python, guided)
        for label, module in (
            ("onnxruntime", "onnxruntime.transformers.float16"),
            ("onnxconverter-common", "onnxconverter_common.float16"),
        ):
            found[f"{label}{suffix}"] = _float16(python, module, guided)
    return found


def _autocast(python: Path, guided: bool) -> Converter:
    def convert(source: Path, target: Path, precision: str, data: Path, kept: list[str]) -> None:
        names = [f"^{name.replace('.', '[.]')}$" for name in kept]
        _run(
            [python, "-m", "modelopt.onnx.autocast", "--onnx_path", source,
             "--output_path", target, "--low_precision_type", precision, "--keep_io_types",
             "--calibration_data", data, "--log_level", "ERROR",
             *(["--nodes_to_exclude", *names] if guided else [])]
        )  # fmt: skip

    return convert


def _float16(python: Path, module: str, guided: bool) -> Converter:
    def convert(source: Path, target: Path, precision: str, data: Path, kept: list[str]) -> None:
        if precision != "fp16":
            raise RevstepError("has no bf16")
        _run([python, "-c", FLOAT16, module, source, target, json.dumps(kept if guided else [])])

    return convert


def _run(command: Sequence[object]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT)
    if done.returncode:
        raise RevstepError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])


def _converted(bundle: Bundle, convert: Converter, precision: str, work: Path) -> dict[str, Any]:
    target, data = work / "other.onnx", work / "calibration.npz"
    target.unlink(missing_ok=True)
    spec, parity = bundle.spec, bundle.parity()
    inputs = {spec.name: parity["x"], spec.time.name: parity["t"]}
    inputs |= {c.name: parity[f"cond.{c.name}"] for c in spec.conditions}
    np.savez(data, **inputs)  # type: ignore[arg-type]
    kept = _kept(bundle, parity, precision, work)
    start = time.perf_counter()
    try:
        convert(bundle.graph("fp32"), target, precision, data, kept)
    except (RevstepError, subprocess.TimeoutExpired) as error:
        return {"precision": precision, "failed": str(error)[:200]}
    return {"convert_seconds": time.perf_counter() - start, **_row(bundle, target, precision, work)}


def _kept(bundle: Bundle, parity: dict[str, NDArray[Any]], precision: str, work: Path) -> list[str]:
    """The names of the nodes that revstep's pass keeps by class and by range."""
    model = ir.load(bundle.graph("fp32"))
    names = add_ranges(model.graph)
    save_graph(model, work / "ranges.onnx")
    denoiser = RangeDenoiser(work / "ranges.onnx", names, bundle.spec, 1)
    forward_rows(denoiser, parity, parity["x"], parity["t"])
    graph = ir.load(bundle.graph("fp32")).graph
    states = (bundle.spec.name,)
    return [str(n.name) for n in keep(graph, denoiser.ranges, TYPES[precision], states)]


def _row(bundle: Bundle, graph: Path, precision: str, work: Path) -> dict[str, Any]:
    return {
        "precision": precision,
        "full_check": _passes(lambda: onnx.checker.check_model(str(graph), full_check=True)),
        "error": _error(bundle, lambda: _emulated(bundle, graph, precision, work)),
        "onnxruntime_cpu": _error(bundle, lambda: OrtDenoiser(graph, bundle.spec, threads=1)),
        "tensorrt_rtx": _passes(lambda: _build(bundle, graph)),
        "bytes": graph.stat().st_size,
        **_counts(graph, precision),
    }


def _emulated(bundle: Bundle, graph: Path, precision: str, work: Path) -> Denoiser:
    model = ir.serde.deserialize_model(_inferred(graph))
    emulate(model.graph, TYPES[precision])
    save_graph(model, work / "emulated.onnx")
    return OrtDenoiser(work / "emulated.onnx", bundle.spec, threads=1)


def _inferred(graph: Path) -> onnx.ModelProto:
    """The graph sorted, with the types that its nodes have: what is written may be wrong."""
    model = ir.load(graph)
    model.graph.sort()
    proto = ir.serde.serialize_model(model)
    del proto.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(proto)


def _error(bundle: Bundle, make: Callable[[], Denoiser]) -> float | str:
    """The error of a forward pass at the times of the parity data, or why there is none."""
    parity = bundle.parity()
    try:
        out = forward_rows(make(), parity, parity["x"], parity["t"])
    except Exception as error:  # of any kind: the graph is another converter's
        return _short(error)
    found = forward_error(out, parity["out"])
    return found if found < math.inf else "NaN or infinity"


def _build(bundle: Bundle, graph: Path) -> None:
    from revstep.engine.backends.trt.library import trt_library
    from revstep.export.targets.options import BuildOptions, Profile
    from revstep.export.targets.trt_build import build_plan
    from revstep.export.targets.trt_source import denoiser_source

    library = trt_library("tensorrt_rtx")
    source = denoiser_source(bundle, bundle.precisions[0], Profile(1, 4, 8))
    build_plan(
        dataclasses.replace(source, graph=graph), library, options=BuildOptions(gpus=("sm_89",))
    )


def _passes(work: Callable[[], object]) -> bool | str:
    try:
        work()
    except Exception as error:  # as above
        return _short(error)
    return True


def _short(error: Exception) -> str:
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/[^/\s]+/", "", str(error))
    return " ".join(text.split())[:200]


def _counts(graph: Path, precision: str) -> dict[str, int]:
    """Casts, and products by the type of their result."""
    model = _inferred(graph)
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    low = int(TYPES[precision])
    ops = collections.Counter(n.op_type for n in model.graph.node)
    products = [n for n in model.graph.node if n.op_type in PRODUCTS]
    return {
        "nodes": len(model.graph.node),
        "casts": ops["Cast"],
        "products": len(products),
        "products_16": sum(types.get(n.output[0]) == low for n in products),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print each row, and append it to a file if one is named."""
    parser = argparse.ArgumentParser(prog="python -m suites.precision.measure", description=__doc__)
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    parser.add_argument("--python", type=Path, help="of the environment with the converters")
    parser.add_argument("--network", action="append", choices=list(NETWORKS))
    options = parser.parse_args(arguments)
    for name in options.network or NETWORKS:
        for row in measure(options.python, name):
            print(json.dumps(row), flush=True)
            if options.output:
                append_row(options.output, new_row("precision", row))


if __name__ == "__main__":
    main()
