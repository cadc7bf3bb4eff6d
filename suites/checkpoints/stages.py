"""What is tried with a bundle: runtimes beside PyTorch's outputs, a TensorRT build, whole runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from revstep.engine.bundle.reader import Bundle
from revstep.export.parity.bounds import recorded
from revstep.export.targets.cpu.folders import without_folders
from suites.checkpoints.kind import PRECISIONS, Made, error_of

GPU = "sm_89"
LONGEST = 300  # characters of what is said

Cell = dict[str, Any]
"""``{"error": ...}`` of the reference's RMS, ``{"megabytes": ...}``, or ``{"said": ...}``."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A column of the table.

    Attributes:
        name: In the rows.
        title: In the table.
        run: Of what was made, in the bundle at the path.
    """

    name: str
    title: str
    run: Callable[[Made, Path], Cell]


def _export(made: Made, path: Path) -> Cell:
    made.export(path, PRECISIONS)
    return {"megabytes": sum(f.stat().st_size for f in path.rglob("*.onnx*")) / 1e6}


def _onnxruntime(precision: str) -> Callable[[Made, Path], Cell]:
    def run(made: Made, path: Path) -> Cell:
        from revstep.export import compile_bundle

        entry = compile_bundle(path, target="onnxruntime", precision=precision)
        return _largest(entry.parity)

    return run


def _openvino(precision: str) -> Callable[[Made, Path], Cell]:
    def run(made: Made, path: Path) -> Cell:
        from revstep.engine.backends.ov.denoiser import OpenVinoDenoiser
        from revstep.export import check_parity

        bundle = Bundle.open(path)
        denoiser = OpenVinoDenoiser(bundle.graph("fp32"), bundle.spec, precision=precision)
        limit = recorded(bundle.manifest, precision)
        return _largest(check_parity(denoiser, bundle.parity(), precision, limit))

    return run


def _tensorrt_rtx(precision: str) -> Callable[[Made, Path], Cell]:
    def run(made: Made, path: Path) -> Cell:
        from revstep.export import BuildOptions, compile_bundle

        entry = compile_bundle(
            path, target="tensorrt_rtx", precision=precision, options=BuildOptions(gpus=(GPU,))
        )
        return {"megabytes": (path / str(entry.file)).stat().st_size / 1e6}

    return run


def _whole(made: Made, path: Path) -> Cell:
    import revstep

    engine = revstep.load(path, backend="onnxruntime", device="cpu", precision="fp32", threads=1)
    return {"error": error_of(made.whole(engine), made.scale)}


STAGES = (
    Stage("export", "export", _export),
    *(Stage(f"onnxruntime {p}", f"ONNX Runtime {p}", _onnxruntime(p)) for p in PRECISIONS),
    *(Stage(f"openvino {p}", f"OpenVINO {p}", _openvino(p)) for p in ("fp32", "bf16")),
    *(Stage(f"tensorrt_rtx {p}", f"TensorRT-RTX {p}", _tensorrt_rtx(p)) for p in PRECISIONS),
    Stage("whole", "whole run", _whole),
)


def said(error: Exception) -> str:
    """What an error says, in one line, without this machine's folders."""
    text = " ".join(without_folders(f"{type(error).__name__}: {error}").split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _largest(figures: Any) -> Cell:
    """The forward pass's error of a parity check, and its bound."""
    return {key: figures["forward"][key] for key in ("error", "bound")}
