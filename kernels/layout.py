"""What the buffers of a step must be: the dtype and shape of every field, of arrays and tensors.

The kernels take numpy arrays on the CPU, or torch tensors on one device. `FIELDS` says for both
what each field is; `NUMPY` and `TORCH` say where the two differ.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from revstep.kernels import columns as col

Array: TypeAlias = Any  # a numpy array, or a torch tensor: torch may not be installed

MAX_HISTORY = 3
# Arrays of history that a step is prepared with; one covers DDIM, DDPM and DPM-Solver++(2M), and
# those that no row names are never touched.
HISTORY_TIERS = (1, MAX_HISTORY)
MAX_ROWS = (1 << 31) - 1  # int32 holds their numbers
ALIGNMENT = 16  # bytes: one access of four float32

_STATE = ("float32", ("B", "D"))
_INTEGERS = ("base", "length", "counter", "current", "cond_row", "uncond_row", "flags")
# Name -> dtype, shape. "seed", "network" and "net_x" (the dtype of that field) are dtypes of the
# library's; B, D, N and R are sizes: the first field that has one says what it is.
FIELDS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "x": _STATE,
    "net_x": ("network", ("N", "D")),
    "output": ("net_x", ("N", "M")),  # M = D, or 2 D with learned variance
    "net_t": ("float32", ("N",)),
    "net_t2": ("float32", ("N",)),
    "table": ("float32", ("R", col.COLUMNS)),
    **dict.fromkeys(_INTEGERS, ("int32", ("B",))),
    "seed": ("seed", ("B",)),
    "guidance": ("float32", ("B",)),
    **{f"history[{k}]": _STATE for k in range(MAX_HISTORY)},
    "x0": _STATE,
    "mask": _STATE,
    "known": _STATE,
}
OPTIONAL = frozenset(
    {"net_t2", "x0", "mask", "known", *(f"history[{k}]" for k in range(MAX_HISTORY))}
)
WRITTEN = OPTIONAL - {"mask", "known"} | {"counter", "current", "x", "net_x", "net_t", "flags"}


class Library(NamedTuple):
    """What the arrays of one library must be.

    Attributes:
        noun: One of them.
        dtypes: The names of dtypes that differ from the other library's: "seed" and "network".
        note: On the network's dtypes.
        max_slots: Largest B.
        max_elements: Largest D.
        check_memory: Refuses one whose place in memory the kernels can't take, by its name; it is
            also given x.
    """

    noun: str
    dtypes: dict[str, tuple[str, ...]]
    note: str
    max_slots: int
    max_elements: int
    check_memory: Callable[[str, Array, Array], None]


def _check_numpy(name: str, array: Array, x: Array) -> None:
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{name} is not C-contiguous; pass np.ascontiguousarray({name})")
    if not flags.writeable and name in WRITTEN:
        raise ValueError(f"{name} is read-only; the kernels write to it, pass a writable array")


def _check_torch(name: str, tensor: Array, x: Array) -> None:
    if tensor.device != x.device:
        raise ValueError(f"{name} is on {tensor.device}, x on {x.device}; use one device")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not contiguous; pass {name}.contiguous()")
    past = tensor.data_ptr() % ALIGNMENT
    if tensor.ndim == 2 and past:
        raise ValueError(
            f"{name} starts {past} bytes after a multiple of {ALIGNMENT}; pass {name}.clone()"
        )


NUMPY = Library(
    noun="numpy array",
    dtypes={"seed": ("uint64",), "network": ("float32", "float16", "uint16")},
    note=" (uint16 holds bfloat16)",
    max_slots=MAX_ROWS,
    max_elements=1 << 34,  # the noise counter is 32 bits of 4 elements each
    check_memory=_check_numpy,
)
TORCH = Library(
    noun="torch tensor",
    dtypes={"seed": ("int64",), "network": ("float32", "float16", "bfloat16")},
    note="",
    max_slots=65_535,  # the launch grid's second axis
    max_elements=(1 << 31) - 4096,  # the kernels count a sample's elements in 32 bits
    check_memory=_check_torch,
)


def library_of(value: object) -> Library | None:
    """Whose array it is; None: it is no array."""
    if isinstance(value, np.ndarray):
        return NUMPY
    torch = sys.modules.get("torch")  # without it there are no tensors
    return TORCH if torch is not None and isinstance(value, torch.Tensor) else None


def dtype_name(array: Array) -> str:
    """The name of an array's or a tensor's dtype, as "float32"."""
    return _name(array.dtype)


@functools.cache
def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def check_layout(fields: dict[str, Array], *, learned_variance: bool) -> None:
    """Checks the type, dtype, shape and place in memory of every field.

    Args:
        fields: By the names in `FIELDS`; x, whose library is everyone's, and all but `OPTIONAL`.
        learned_variance: Whether the output has a second half.

    Raises:
        TypeError: A field is no array of x's library, or has a wrong dtype.
        ValueError: A wrong shape or place in memory; sizes out of range.
    """
    x = fields.get("x")
    library = library_of(x)
    if library is None:
        raise TypeError(
            f"x is a {type(x).__name__}; it must be a {NUMPY.noun}, or a {TORCH.noun} as all others"
        )
    dtypes = dict(library.dtypes)
    sizes: dict[str | int, int] = {col.COLUMNS: col.COLUMNS}
    for name, (dtype, shape) in FIELDS.items():
        array: Array = fields.get(name)
        if array is None and name in OPTIONAL:
            continue
        if type(array) is not type(x) and library_of(array) is not library:
            raise TypeError(f"{name} is a {type(array).__name__}; it must be a {library.noun}")
        if _name(array.dtype) not in dtypes.get(dtype, (dtype,)):
            allowed = " or ".join(dtypes.get(dtype, (dtype,)))
            note = library.note if dtype == "network" else ""
            raise TypeError(f"{name} is {dtype_name(array)}; it must be {allowed}{note}")
        _check_shape(name, array.shape, shape, sizes, library)
        library.check_memory(name, array, x)
        if name == "net_x":
            dtypes["net_x"] = (dtype_name(array),)
            sizes["M"] = sizes["D"] * (2 if learned_variance else 1)


def _check_shape(
    name: str,
    found: Sequence[int],
    shape: tuple[str | int, ...],
    sizes: dict[str | int, int],
    library: Library,
) -> None:
    """Refuses a shape that disagrees with the sizes that are known, and learns the others."""
    wanted = [sizes.get(size) for size in shape]
    if list(found) == wanted:
        return
    if len(found) != len(wanted) or any(
        want not in (None, got) for want, got in zip(wanted, found, strict=True)
    ):
        allowed = ", ".join("any" if want is None else str(want) for want in wanted)
        raise ValueError(f"{name} has shape {list(found)}; it must be [{allowed}]")
    largest = {"B": library.max_slots, "D": library.max_elements}
    for letter, size in zip(shape, found, strict=True):
        limit = largest.get(str(letter), MAX_ROWS)
        if not 1 <= size <= limit:
            raise ValueError(
                f"{name} has shape {list(found)}; it must have 1 <= {letter} <= {limit}"
            )
        sizes[letter] = size
