"""Whether the runtimes that are installed have the operators of a file."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from revstep.engine.errors import BackendError
from revstep.export.graph.check import joined
from revstep.export.sources.onnx_file.ports import OnnxFile

LONGEST = 300  # characters of a runtime's reason


def runtimes(file: OnnxFile) -> dict[str, str]:
    """By runtime: ``reads it``, or why not; those that aren't installed are left out."""
    asked: dict[str, tuple[str, Callable[[OnnxFile], str]]] = {
        "onnxruntime": ("onnxruntime", _onnxruntime),
        "openvino": ("openvino", _openvino),
        "tensorrt_rtx": ("tensorrt_rtx", _tensorrt_rtx),
    }
    found = {}
    for name, (package, ask) in asked.items():
        if find_spec(package) is None:
            continue
        try:
            found[name] = ask(file)
        except Exception as error:  # each has errors of its own
            said = joined(error.__cause__ if isinstance(error, BackendError) else error)
            short = said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."
            found[name] = f"can't read it: {short}"
    return found


def foreign(file: OnnxFile) -> list[str]:
    """The operators of other domains than ONNX's own, which most runtimes lack."""
    return sorted(name for name in file.operators if "::" in name)


def _onnxruntime(file: OnnxFile) -> str:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    ort.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
    return f"{ort.__version__} reads it"


def _openvino(file: OnnxFile) -> str:
    from revstep.engine.backends.ov import library

    with library.CALLS.call():
        library.core().read_model(str(file.path))
    return f"{library.version()} reads it"


def _tensorrt_rtx(file: OnnxFile) -> str:
    """What its parser says of each operator: that needs no GPU, and reads no weights."""
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder: Any = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    lacking = [name for name in sorted(file.operators) if not _has(parser, name)]
    said = f"lacks {', '.join(lacking)}" if lacking else "has its operators"
    return f"{trt.__version__} {said}"


def _has(parser: Any, name: str) -> bool:
    return "::" not in name and bool(parser.supports_operator(name))
