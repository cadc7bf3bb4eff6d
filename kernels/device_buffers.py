"""The arrays that one fused step works on, as torch tensors on one device.

The fields are those of `revstep.kernels.buffers.StepBuffers`, which says what each is for. Only
what the tensors' descriptions tell is checked: looking into a table or a map on a GPU would wait
for it. Whoever writes programs and maps checks them on the host, as `StepBuffers.check_rows` does;
the kernels themselves trust them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from revstep.kernels import columns as col
from revstep.kernels.buffers import MAX_HISTORY, StepBuffers

if TYPE_CHECKING:
    import torch

MAX_SLOTS = 65_535  # the launch grid's second axis
MAX_ELEMENTS = (1 << 31) - 4096  # the kernels count a sample's elements in 32 bits
NETWORK_DTYPES = ("float32", "float16", "bfloat16")
ALIGNMENT = 16  # bytes: one access of four float32


@dataclass(frozen=True, eq=False, kw_only=True)
class DeviceBuffers:
    """Tensors of one step on one device; the kernels and graphs keep their addresses.

    B = sample slots, D = elements of a sample, N = network rows, R = table rows. Every tensor is
    contiguous and, but for the small ones [B] and [N], starts at a multiple of 16 bytes.

    Attributes:
        table: float32 [R, 32].
        base, length, counter, current, cond_row, uncond_row, flags: int32 [B].
        seed: int64 [B]: the 64 bits of the key, two's complement.
        guidance: float32 [B].
        x: float32 [B, D].
        output: network dtype [N, D], or [N, 2 D] with learned variance.
        net_x: network dtype [N, D]; float32, float16 or bfloat16.
        net_t: float32 [N].
        history: 0 to 3 tensors float32 [B, D].
        x0: float32 [B, D] or None.
        mask, known: float32 [B, D], or None both.
        learned_variance: The output's second half is the variance.

    Raises:
        TypeError: A field is no tensor, or has a wrong dtype.
        ValueError: A wrong shape, device, layout or alignment; sizes that the kernels can't take.
    """

    table: torch.Tensor
    base: torch.Tensor
    length: torch.Tensor
    counter: torch.Tensor
    current: torch.Tensor
    seed: torch.Tensor
    guidance: torch.Tensor
    cond_row: torch.Tensor
    uncond_row: torch.Tensor
    x: torch.Tensor
    output: torch.Tensor
    net_x: torch.Tensor
    net_t: torch.Tensor
    flags: torch.Tensor
    history: tuple[torch.Tensor, ...] = ()
    x0: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    known: torch.Tensor | None = None
    learned_variance: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", tuple(self.history))
        self._check("x", ("float32",), (None, None))
        B, D = self.x.shape
        if not (1 <= B <= MAX_SLOTS and 1 <= D <= MAX_ELEMENTS):
            raise ValueError(
                f"x has shape {[B, D]}; it must be [1..{MAX_SLOTS}, 1..{MAX_ELEMENTS}]"
            )
        self._check("net_x", NETWORK_DTYPES, (None, D))
        N = self.net_x.shape[0]
        if N < 1:
            raise ValueError("net_x has no rows; the network's batch needs at least 1")
        dtype = (_dtype_name(self.net_x),)
        self._check("output", dtype, (N, 2 * D if self.learned_variance else D))
        self._check("table", ("float32",), (None, col.COLUMNS))
        self._check("net_t", ("float32",), (N,))
        self._check("guidance", ("float32",), (B,))
        self._check("seed", ("int64",), (B,))
        for name in ("base", "length", "counter", "current", "cond_row", "uncond_row", "flags"):
            self._check(name, ("int32",), (B,))
        if len(self.history) > MAX_HISTORY:
            raise ValueError(f"history has {len(self.history)} slots; at most {MAX_HISTORY}")
        for k, slot in enumerate(self.history):
            self._check(f"history[{k}]", ("float32",), (B, D), slot)
        if (self.mask is None) != (self.known is None):
            given = "mask" if self.known is None else "known"
            raise ValueError(f"only {given} is given; inpainting needs both mask and known")
        for name in ("x0", "mask", "known"):
            if getattr(self, name) is not None:
                self._check(name, ("float32",), (B, D))

    @property
    def slots(self) -> int:
        """B, the number of sample slots."""
        return int(self.x.shape[0])

    @property
    def elements(self) -> int:
        """D, the number of elements of a sample."""
        return int(self.x.shape[1])

    @property
    def network_rows(self) -> int:
        """N, the number of rows of the network's batch."""
        return int(self.net_x.shape[0])

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.x.device

    @classmethod
    def from_step(cls, buffers: StepBuffers, device: str | torch.device) -> DeviceBuffers:
        """Copies of numpy buffers on `device`; uint16 arrays become bfloat16."""
        import torch

        def tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
            if array.dtype == np.uint64:
                array = array.view(np.int64)
            if array.dtype == np.uint16:
                host = torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
            else:
                host = torch.from_numpy(array.copy())
            # clone: numpy aligns to 16 bytes only by chance, torch always does
            return host.clone() if torch.device(device).type == "cpu" else host.to(device)

        def convert(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(tensor(slot) for slot in value)
            return tensor(value) if isinstance(value, np.ndarray) else value

        return cls(**{f.name: convert(getattr(buffers, f.name)) for f in fields(StepBuffers)})

    def to_step(self) -> StepBuffers:
        """The same as numpy buffers: views of tensors on the CPU, copies of others.

        Raises:
            ValueError: Maps or programs that `StepBuffers` refuses.
        """
        import torch

        def array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
            if tensor.dtype == torch.bfloat16:
                return np.asarray(tensor.view(torch.int16).cpu().numpy().view(np.uint16))
            values = tensor.cpu().numpy()
            return np.asarray(values.view(np.uint64) if tensor.dtype == torch.int64 else values)

        def convert(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(array(slot) for slot in value)
            return array(value) if isinstance(value, torch.Tensor) else value

        return StepBuffers(**{f.name: convert(getattr(self, f.name)) for f in fields(self)})

    def _check(
        self,
        name: str,
        dtypes: tuple[str, ...],
        shape: tuple[int | None, ...],
        value: torch.Tensor | None = None,
    ) -> None:
        import torch

        tensor = getattr(self, name) if value is None else value
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}; it must be a torch tensor")
        if _dtype_name(tensor) not in dtypes:
            allowed = " or ".join(dtypes)
            raise TypeError(f"{name} is {_dtype_name(tensor)}; it must be {allowed}")
        if tensor.ndim != len(shape) or any(
            want not in (None, got) for want, got in zip(shape, tensor.shape, strict=True)
        ):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise ValueError(f"{name} has shape {list(tensor.shape)}; it must be [{wanted}]")
        if tensor.device != self.x.device:
            raise ValueError(f"{name} is on {tensor.device}, x on {self.x.device}; use one device")
        if not tensor.is_contiguous():
            raise ValueError(f"{name} is not contiguous; pass {name}.contiguous()")
        if len(shape) == 2 and tensor.data_ptr() % ALIGNMENT:
            raise ValueError(
                f"{name} starts {tensor.data_ptr() % ALIGNMENT} bytes after a multiple of "
                f"{ALIGNMENT}; pass {name}.clone()"
            )


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
