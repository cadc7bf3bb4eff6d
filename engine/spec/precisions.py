"""The precisions of a network's graph, and how far one may be from PyTorch."""

from __future__ import annotations

FORWARD_BOUNDS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""Largest error of one forward pass, relative to the RMS of the reference."""

PRECISIONS = tuple(FORWARD_BOUNDS)
