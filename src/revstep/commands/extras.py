"""Which extra brings which package."""

from __future__ import annotations

import importlib.util

_EXTRAS = {
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "diffusers": "export",
    "safetensors": "export",
    "transformers": "pipelines",
    "tokenizers": "text",
    "PIL": "images",
    "matplotlib": "images",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "ray": "ray",
    "pyarrow": "ray",
    "pandas": "ray",
    "triton": "triton",
    "cuda": "cuda",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
}


def extra_of(module: str) -> str | None:
    """The extra that brings ``module``, or None."""
    return _EXTRAS.get(module.partition(".")[0])


def need(*modules: str, purpose: str) -> None:
    """Refuses early, before any work, where a package that ``purpose`` needs is missing.

    Raises:
        ModuleNotFoundError: It says which extra to install.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(
                f"{purpose} needs {module}, which is not installed; "
                f"pip install 'revstep[{extra_of(module) or module}]'"
            )
