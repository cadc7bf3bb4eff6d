"""A live module in 16 bits: autocast, with the weights of its products cast once.

A module is run as it would be trained in mixed precision: x, the time and the conditions come in
float32, products run in 16 bits, norms and softmax in float32, and mixed types promote. Layers that
see the time and the conditions alone stay float32, and so do those that the module itself runs
outside of autocast.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from revstep.engine.backends.module.cast import copy_module
from revstep.engine.backends.module.denoiser import DTYPES, NAMES, prepare_module
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.program.points import point, second_time
from revstep.engine.spec.precisions import FORWARD_BOUNDS
from revstep.engine.spec.prediction import PRECONDITIONED

if TYPE_CHECKING:
    from revstep.engine.spec.denoiser import DenoiserSpec


PRODUCTS = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear, nn.MultiheadAttention)
WEIGHTS = frozenset({
    "weight", "bias", "in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight",
    "v_proj_weight", "bias_k", "bias_v",
})  # fmt: skip
TIMES = (0.94, 0.5)  # of the schedule's steps: a time of three digits and more, and a middle one
VECTOR = 2  # axes: (N, features)
PADDING = 2  # the place of an encoder's src_key_padding_mask
TINY = 1e-12

logger = logging.getLogger("revstep")


class ReducedModule(nn.Module):
    """Runs a module under autocast: ``(x, t, *conditions)`` in float32, as the caller has them.

    Args:
        module: On its device, in eval mode.
        dtype: float16 or bfloat16.
        device: Where it runs.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.module = module
        self.dtype = dtype
        self.device_type = device.type

    def forward(self, x: torch.Tensor, t: torch.Tensor, *conditions: torch.Tensor) -> object:
        """What the module returns."""
        # a cache of cast weights would not outlive the recording of a CUDA graph
        with torch.autocast(self.device_type, dtype=self.dtype, cache_enabled=False):
            return self.module(x, t, *conditions)


def live_module(
    module: nn.Module, spec: DenoiserSpec, precision: str, device: torch.device
) -> nn.Module:
    """The module as ``from_module`` runs it: itself, or a copy; the caller's stays as it is.

    Args:
        module: Of any floating-point dtype, on any device.
        spec: Its spec.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        device: Where it shall run.
    """
    prepared = prepare_module(module, device, torch.float32)
    if precision == "fp32":
        return prepared
    own = copy_module(module).eval() if prepared is module else prepared
    return reduced_module(own, spec, DTYPES[precision], device)


def reduced_module(
    module: nn.Module, spec: DenoiserSpec, dtype: torch.dtype, device: torch.device
) -> ReducedModule:
    """The module in 16 bits; it is run a few times to see what each of its layers is fed.

    Args:
        module: Float32, in eval mode, on the device. It is changed: give a copy of the caller's.
        spec: Its spec.
        dtype: float16 or bfloat16.
        device: Where it is.

    Returns:
        The module. A warning says so if it differs from float32 by more than an export may.
    """
    reduced = ReducedModule(module, dtype, device)
    reduced.eval()  # else every call is of another copy
    states, rest = _inputs(spec, device)
    seen = _Layers(module, device.type)

    def run(network: nn.Module, x: torch.Tensor) -> object:
        with torch.inference_mode(False), torch.no_grad():
            return network(x.clone(), *(value.clone() for value in rest))

    try:
        want = run(module, states[0])
        with seen.watched():
            for x in states:
                run(reduced, x)
        seen.cast(dtype)
        got = run(reduced, states[0])
    except Exception as error:  # null conditions may be nothing that the module takes
        logger.debug("weights stay float32, as the module failed in %s: %s", dtype, error)
        seen.restore()
        return reduced
    if isinstance(got, torch.Tensor) and isinstance(want, torch.Tensor):
        _warn(got.double(), want.double(), dtype)
    return reduced


def _inputs(
    spec: DenoiserSpec, device: torch.device
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two noisy states (N, *shape) of the same times, and (t, *conditions): null conditions."""
    rows = min(max(spec.batch[0], len(TIMES)), spec.batch[1])
    buffers = NetworkBuffers.allocate(spec, rows)
    indices = [spec.schedule.steps * TIMES[i % len(TIMES)] for i in range(rows)]
    points = [point(spec, float(t)) for t in spec.schedule.from_index(np.array(indices))]
    buffers.t[:] = [p.time for p in points]
    if buffers.second is not None:
        clean = point(spec, spec.schedule.clean)
        buffers.second[:] = [second_time(spec, p, clean) for p in points]
    noise = np.random.default_rng(0).standard_normal((2, rows, *spec.shape)).astype(np.float32)
    if spec.prediction not in PRECONDITIONED:  # whose input has a spread of 1
        size = [math.hypot(0.5 * p.alpha, p.sigma) for p in points]
        noise *= np.array(size, np.float32).reshape(-1, *(1 for _ in spec.shape))
    _, *rest = buffers.inputs(spec).values()
    return (
        [torch.from_numpy(x).to(device) for x in noise],
        [torch.from_numpy(value).to(device) for value in rest],
    )


class _Layers:
    """What the product layers of a module are fed, over two calls of it with two states."""

    def __init__(self, module: nn.Module, device_type: str) -> None:
        self._device_type = device_type
        self._layers = [m for m in module.modules() if isinstance(m, PRODUCTS)]
        self._sums: dict[nn.Module, list[torch.Tensor]] = {m: [] for m in self._layers}
        self._left: set[nn.Module] = set()  # the module runs them outside of autocast
        self._vectors: set[nn.Module] = set()
        self._before: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._module = module
        self._encoders = [
            m
            for m in module.modules()
            if isinstance(m, nn.TransformerEncoder) and getattr(m, "use_nested_tensor", False)
        ]
        self._padded: set[nn.Module] = set()  # encoders that are given a padding mask
        others = (m for m in module.modules() if not isinstance(m, PRODUCTS))
        self._shared = {id(p) for m in others for p in m.parameters(recurse=False)}

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Notes every call of a layer."""
        hooks = [m.register_forward_pre_hook(self._note, with_kwargs=True) for m in self._layers]
        for m in self._encoders:
            m.use_nested_tensor = False  # which layers with hooks don't take
            hooks.append(m.register_forward_pre_hook(self._note_padding, with_kwargs=True))
        try:
            yield
        finally:
            for m in self._encoders:
                m.use_nested_tensor = True
            for hook in hooks:
                hook.remove()

    def cast(self, dtype: torch.dtype) -> None:
        """Casts the weights of layers that are fed the state, or more than one vector per row.

        Those that turn vectors of the time and the conditions into others run in float32.
        """
        wide = self._leave_fast_paths(self._padded)
        for layer, sums in self._sums.items():
            half = len(sums) // 2
            if not half or layer in self._left or layer in wide:
                continue
            same = all(bool(a == b) for a, b in zip(sums[:half], sums[half:], strict=False))
            if same and layer in self._vectors:
                _keep_wide(layer, self._device_type)
            else:
                self._cast(layer, dtype)

    def restore(self) -> None:
        """Gives every weight its float32 values back."""
        for parameter, values in self._before:
            parameter.data = values
        self._leave_fast_paths(self._encoders)

    def _leave_fast_paths(self, encoders: Iterable[nn.Module]) -> set[nn.Module]:
        """Runs these encoders in float32, and the layers of others without their fast path.

        ``nn.TransformerEncoder``'s nested tensors, which make padded positions 0, and its layers'
        fast path take weights and states of one dtype, and see no autocast but a GPU's.

        Returns:
            The parts of ``encoders``.
        """
        inner = {part for encoder in encoders for part in encoder.modules()}
        for encoder in encoders:
            _keep_wide(encoder, self._device_type)
        for part in self._module.modules():
            if isinstance(part, nn.TransformerEncoderLayer) and part not in inner:
                part.activation_relu_or_gelu = 0
        return inner

    def _note_padding(
        self, encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if kwargs.get("src_key_padding_mask", args[2] if len(args) > PADDING else None) is not None:
            self._padded.add(encoder)

    def _note(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.is_autocast_enabled(self._device_type):
            self._left.add(layer)
        total = torch.zeros((), dtype=torch.float64)
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                flat = value.double().nan_to_num().flatten()
                place = torch.arange(1.0, 1.0 + flat.numel(), dtype=flat.dtype, device=flat.device)
                total = total + (flat @ place).cpu()
                if value.ndim <= VECTOR and isinstance(layer, nn.Linear | nn.Bilinear):
                    self._vectors.add(layer)
        self._sums[layer].append(total)

    def _cast(self, layer: nn.Module, dtype: torch.dtype) -> None:
        owners = (m for m in layer.modules() if isinstance(m, PRODUCTS))
        for name, p in (named for m in owners for named in m.named_parameters(recurse=False)):
            plain = type(p.data) is torch.Tensor and p.dtype == torch.float32
            if name in WEIGHTS and plain and id(p) not in self._shared:
                self._before.append((p, p.data))
                p.data = p.data.to(dtype)


def _keep_wide(layer: nn.Module, device_type: str) -> None:
    """Runs a layer in float32 inside autocast."""
    inner = layer.forward

    @functools.wraps(inner)
    def forward(*inputs: Any, **named: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            return inner(*map(_float, inputs), **{k: _float(v) for k, v in named.items()})

    layer.forward = forward


def _float(value: Any) -> Any:
    wide = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if wide else value


def _warn(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype) -> None:
    error = float((got - want).abs().max() / want.square().mean().sqrt().clamp_min(TINY))
    bound = FORWARD_BOUNDS[NAMES[dtype]]
    if not error <= bound:
        logger.warning(
            "in %s the module differs from float32 by %.2g of its output's RMS, more than %g: "
            "use another precision",
            str(dtype).removeprefix("torch."), error, bound,
        )  # fmt: skip
