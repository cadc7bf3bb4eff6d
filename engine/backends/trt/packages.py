"""TensorRT's Python packages, by name."""

PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""Module (and target of ``revstep compile``) -> the extra that brings it."""
