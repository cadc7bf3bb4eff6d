"""The ONNX opsets that graphs are written in."""

from __future__ import annotations

__all__ = ["OPSETS"]

OPSETS = (18, 19, 20, 21, 22)  # from 23 the Attention operator breaks TensorRT-RTX's small heads
