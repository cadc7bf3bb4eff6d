"""Export's tests need its packages and ONNX Runtime: without them none is collected."""

from importlib.util import find_spec

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "diffusers", "safetensors")
collect_ignore_glob = [] if all(map(find_spec, PACKAGES)) else ["*"]
