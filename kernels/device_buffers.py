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

from revstep.kernels.buffers import StepBuffers
from revstep.kernels.layout import Shape, check_layout, check_shape

if TYPE_CHECKING:
    import torch

MAX_SLOTS = 65_535  # the launch grid's second axis
MAX_ELEMENTS = (1 << 31) - 4096  # the kernels count a sample's elements in 32 bits
_DTYPES = {"seed": ("int64",), "network": ("float32", "float16", "bfloat16")}
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
        check_layout(self, self._check, most_slots=MAX_SLOTS, most_elements=MAX_ELEMENTS)

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

    def _check(self, name: str, tensor: object, kind: str, shape: Shape) -> None:
        import torch

        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}; it must be a torch tensor")
        allowed = (_dtype_name(self.net_x),) if kind == "net_x" else _DTYPES.get(kind, (kind,))
        if _dtype_name(tensor) not in allowed:
            raise TypeError(f"{name} is {_dtype_name(tensor)}; it must be {' or '.join(allowed)}")
        check_shape(name, tensor.shape, shape)
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
