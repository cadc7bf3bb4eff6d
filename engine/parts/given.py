"""What is given to the encoders: inputs by name."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

Given = tuple[Arrays, Arrays]
"""Inputs of both halves by name, (rows, *shape), or (*shape) of one value for all samples."""

NONE: Given = ({}, {})
