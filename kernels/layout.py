"""What the buffers of a step must be: the dtype and shape of every field, of arrays or tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from revstep.kernels import columns as col

MAX_HISTORY = 3

Shape = tuple[int | None, ...]
Check = Callable[[str, Any, str, Shape], None]


def check_layout(
    buffers: Any, check: Check, *, most_slots: int | None = None, most_elements: int
) -> None:
    """Checks every field of a `StepBuffers` or a `DeviceBuffers`.

    Args:
        buffers: The fields.
        check: Checks one: (its name, its value, a kind, its shape; None is any size). Kinds are
            "float32", "int32", "seed", "network" (any dtype that a network may have) and "net_x"
            (the dtype of that field).
        most_slots: Largest B; None: any.
        most_elements: Largest D.

    Raises:
        TypeError, ValueError: What `check` raises; sizes out of range; fields that don't go
            together.
    """
    check("x", buffers.x, "float32", (None, None))
    B, D = buffers.x.shape
    if not (1 <= B <= (most_slots or B) and 1 <= D <= most_elements):
        slots = "1 <= B" if most_slots is None else f"1 <= B <= {most_slots}"
        raise ValueError(f"x has shape {[B, D]}; it must be [{slots}, 1 <= D <= {most_elements}]")
    check("net_x", buffers.net_x, "network", (None, D))
    N = buffers.net_x.shape[0]
    if N < 1:
        raise ValueError("net_x has no rows; the network's batch needs at least 1")
    width = 2 * D if buffers.learned_variance else D
    check("output", buffers.output, "net_x", (N, width))
    check("net_t", buffers.net_t, "float32", (N,))
    check("table", buffers.table, "float32", (None, col.COLUMNS))
    R = buffers.table.shape[0]
    if not 1 <= R < 1 << 31:
        raise ValueError(f"table has {R} rows; it needs 1 to 2**31 - 1")
    for name in ("base", "length", "counter", "current", "cond_row", "uncond_row", "flags"):
        check(name, getattr(buffers, name), "int32", (B,))
    check("seed", buffers.seed, "seed", (B,))
    check("guidance", buffers.guidance, "float32", (B,))
    if len(buffers.history) > MAX_HISTORY:
        raise ValueError(f"history has {len(buffers.history)} slots; at most {MAX_HISTORY}")
    for k, slot in enumerate(buffers.history):
        check(f"history[{k}]", slot, "float32", (B, D))
    if (buffers.mask is None) != (buffers.known is None):
        given = "mask" if buffers.known is None else "known"
        raise ValueError(f"only {given} is given; inpainting needs both mask and known")
    for name in ("x0", "mask", "known"):
        if getattr(buffers, name) is not None:
            check(name, getattr(buffers, name), "float32", (B, D))


def check_shape(name: str, shape: Sequence[int], wanted: Shape) -> None:
    """Refuses another shape than wanted; None is any size.

    Raises:
        ValueError: It is another.
    """
    if len(shape) != len(wanted) or any(
        want not in (None, got) for want, got in zip(wanted, shape, strict=True)
    ):
        allowed = ", ".join("any" if want is None else str(want) for want in wanted)
        raise ValueError(f"{name} has shape {list(shape)}; it must be [{allowed}]")
