"""The ``tensorrt`` backend: a bundle's plans on torch's tensors, as the engine calls them.

One ``TrtDenoiser`` has static engines of several batches, a dynamic one, or both, and gives each
binding its own execution context. Nothing here synchronises.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.trt.library import trt_library
from revstep.engine.backends.trt.plan import PlanFile, TrtEngine
from revstep.engine.errors import BackendError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.kernels.layout import dtype_name

if TYPE_CHECKING:
    import torch

__all__ = ["TrtDenoiser", "on_device"]


class TrtDenoiser:
    """A denoiser in TensorRT.

    Args:
        engines: Static engines of several batches, a dynamic one, or both, of one TensorRT.
        spec: The bundle's spec; the engines' tensors must be the spec's.
        device: The torch device that runs them.

    Attributes:
        engines: The engines; static ones first.
        spec: The spec.
        dtype: torch dtype of x and the output.
        device: The torch device.
        stream: None: it runs on any.

    Raises:
        BackendError: An engine does not fit the spec.
    """

    stream: torch.cuda.Stream | None = None

    def __init__(
        self,
        engines: Sequence[TrtEngine],
        spec: DenoiserSpec,
        *,
        device: str | torch.device = "cuda",
    ) -> None:
        import torch

        if not engines:
            raise ValueError("a TensorRT denoiser needs at least one engine")
        for engine in engines:
            _check_engine(engine, spec)
        self.engines = tuple(
            sorted(engines, key=lambda engine: (engine.rows[1] - engine.rows[0], engine.tuned))
        )
        self.spec = spec
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, engines[0].inputs[spec.name][1])
        self._contexts: weakref.WeakKeyDictionary[Callable[[], None], Any] = (
            weakref.WeakKeyDictionary()
        )

    @classmethod
    def load(
        cls,
        plans: Sequence[PlanFile],
        spec: DenoiserSpec,
        *,
        module: str = "tensorrt",
        device: str | torch.device = "cuda",
        kernels: Sequence[bytes | None] = (),
    ) -> TrtDenoiser:
        """A denoiser from plans on disk.

        Args:
            plans: The plans.
            spec: The bundle's spec.
            module: ``tensorrt`` or ``tensorrt_rtx``: what built them.
            device: The torch device.
            kernels: TensorRT-RTX: for each plan, what ``cached_kernels`` gave in another process.

        Raises:
            BackendError: A plan is damaged, can't run here, or does not fit the spec.
        """
        library = trt_library(module)
        known = (*kernels, *(None for _ in plans[len(kernels) :]))
        engines = []
        for plan, cache in zip(plans, known, strict=True):
            data = plan.read()
            with on_device(device):
                engines.append(
                    TrtEngine(
                        data, library, label=plan.path.name, mend=plan.mend, runtime_cache=cache
                    )
                )
        return cls(engines, spec, device=device)

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """(least, most) rows of each engine; a static one has one batch."""
        return tuple(engine.rows for engine in self.engines)

    @property
    def capturable(self) -> str | None:
        """None, or why the bound networks can't be captured in a CUDA graph.

        TensorRT-RTX is asked about every binding, on the current stream; call it once each has run.
        """
        for context in list(self._contexts.values()):
            if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(
                self._stream()
            ):
                return "TensorRT-RTX says that this engine's launches can't be captured"
        return None

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """Binds the buffers to a context of their own; the call enqueues on torch's stream.

        Raises:
            BackendError: No engine takes these rows, or memory is short.
            ValueError: Buffers of unequal rows, or of a wrong dtype, device or layout.
        """
        tensors = buffers.inputs(self.spec)
        rows = len(buffers.t)
        engine = self._engine_for(rows)
        self._check_tensors(engine, rows, {**tensors, engine.output[0]: buffers.out})
        with on_device(self.device):
            context = engine.context(rows, tensors, buffers.out)

        def call(_keep: NetworkBuffers = buffers) -> None:
            if not context.execute_async_v3(self._stream()):
                raise engine.failed_run(rows)

        self._contexts[call] = context
        return call

    def describe(self) -> dict[str, Any]:
        """Backend, library, version, device, and the engines' rows."""
        return {
            "backend": "tensorrt",
            "library": self.engines[0].library.name,
            "version": self.engines[0].library.version,
            "device": str(self.device),
            "engines": [
                {"plan": engine.label, "rows": list(engine.rows), "tuned": engine.tuned}
                for engine in self.engines
            ],
        }

    def _engine_for(self, rows: int) -> TrtEngine:
        for engine in self.engines:  # static ones first
            if engine.rows[0] <= rows <= engine.rows[1]:
                return engine
        have = ", ".join(_range(engine.rows) for engine in self.engines)
        mend = self.engines[0].mend.partition(" --batch")[0].partition(" --dynamic")[0]
        raise BackendError(
            f"no TensorRT engine of this bundle takes {rows} rows; its engines take {have}; "
            f"run: {mend} --batch {rows}"
        )

    def _check_tensors(
        self, engine: TrtEngine, rows: int, tensors: dict[str, torch.Tensor]
    ) -> None:
        dtypes = {name: dtype for name, (_, dtype) in engine.inputs.items()}
        dtypes |= dict([engine.output])
        for name, tensor in tensors.items():
            dtype = dtype_name(tensor)
            if tensor.shape[0] != rows:  # TensorRT would read past the end, or broadcast
                raise ValueError(f"{name!r} has {tensor.shape[0]} rows, the times have {rows}")
            if dtype != dtypes[name]:
                raise ValueError(f"{name!r} is {dtype}; the engine takes {dtypes[name]}")
            if tensor.device.type != self.device.type or not tensor.is_contiguous():
                raise ValueError(
                    f"{name!r} must be contiguous and on {self.device}; it is on {tensor.device}, "
                    f"strides {tensor.stride()}"
                )

    def _stream(self) -> int:
        """The handle of torch's current stream."""
        import torch

        if self.device.type != "cuda":
            return 0
        return int(torch.cuda.current_stream(self.device).cuda_stream)


def _range(rows: tuple[int, int]) -> str:
    return str(rows[0]) if rows[0] == rows[1] else f"{rows[0]} to {rows[1]}"


def _check_engine(engine: TrtEngine, spec: DenoiserSpec) -> None:
    wanted = {
        spec.name: (spec.shape, None),
        spec.time.name: ((), "float32"),
        **{c.name: (c.shape, c.interface) for c in spec.conditions},
    }
    if set(engine.inputs) != set(wanted):
        raise BackendError(
            f"{engine.label} has the inputs {', '.join(engine.inputs)}; the spec names "
            f"{', '.join(wanted)}; run: {engine.mend}"
        )
    for name, (shape, dtype) in wanted.items():
        found = engine.inputs[name]
        if found[0] != (-1, *shape) or (dtype is not None and found[1] != dtype):
            raise BackendError(
                f"{engine.label}: input {name!r} is {found[1]} {found[0][1:]} a row; the spec says "
                f"{dtype or 'a float'} {shape}; run: {engine.mend}"
            )


def on_device(device: str | torch.device) -> contextlib.AbstractContextManager[Any]:
    """The device as CUDA's current one; without CUDA the library itself says what is wrong."""
    import torch

    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return torch.cuda.device(device)
    return contextlib.nullcontext()
