"""The ``tensorrt`` backend: a bundle's plans on torch's tensors, as steps call them.

One ``TrtDenoiser`` has static plans of several batches, a dynamic one, or both, and gives each
binding its own execution context. Nothing here synchronises.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.trt.library import trt_library
from revstep.engine.backends.trt.plan import PlanFile, TrtPlan, on_device, open_plan, rows_text
from revstep.engine.errors import BackendError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.kernels.layout import dtype_name

if TYPE_CHECKING:
    import torch


class TrtDenoiser:
    """A denoiser in TensorRT.

    Args:
        plans: Static plans of several batches, a dynamic one, or both, of one TensorRT.
        spec: The bundle's spec; the plans' tensors must be the spec's.
        device: The torch device that runs them.

    Attributes:
        plans: The plans; static ones first.
        spec: The spec.
        dtype: torch dtype of x and the output.
        device: The torch device.
        stream: None: it runs on any.

    Raises:
        BackendError: A plan does not fit the spec.
    """

    stream: torch.cuda.Stream | None = None

    def __init__(
        self,
        plans: Sequence[TrtPlan],
        spec: DenoiserSpec,
        *,
        device: str | torch.device = "cuda",
    ) -> None:
        import torch

        if not plans:
            raise ValueError("a TensorRT denoiser needs at least one plan")
        for plan in plans:
            _check_plan(plan, spec)
        self.plans = tuple(
            sorted(plans, key=lambda plan: (plan.rows[1] - plan.rows[0], plan.tuned))
        )
        self.spec = spec
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, plans[0].inputs[spec.name][1])
        self._contexts: weakref.WeakKeyDictionary[Callable[[], None], Any] = (
            weakref.WeakKeyDictionary()
        )

    @classmethod
    def load(
        cls,
        files: Sequence[PlanFile],
        spec: DenoiserSpec,
        *,
        module: str = "tensorrt",
        device: str | torch.device = "cuda",
        kernels: Sequence[bytes | None] = (),
    ) -> TrtDenoiser:
        """A denoiser from plans on disk.

        Args:
            files: The plans.
            spec: The bundle's spec.
            module: ``tensorrt`` or ``tensorrt_rtx``: what built them.
            device: The torch device.
            kernels: TensorRT-RTX: for each plan, what ``cached_kernels`` gave in another process.

        Raises:
            BackendError: A plan is damaged, can't run here, or does not fit the spec.
        """
        library = trt_library(module)
        plans = [
            open_plan(file, library, device, cache)
            for file, cache in itertools.zip_longest(files, kernels)
        ]
        return cls(plans, spec, device=device)

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """(min, max) rows of each plan; a static one has one batch."""
        return tuple(plan.rows for plan in self.plans)

    @property
    def capturable(self) -> str | None:
        """None, or why the bound networks can't be captured in a CUDA graph.

        TensorRT-RTX is asked about every binding, on the current stream; call it once each has run.
        """
        for context in list(self._contexts.values()):
            if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(
                self._stream()
            ):
                return "TensorRT-RTX says that this plan's launches can't be captured"
        return None

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """Binds the buffers to a context of their own; the call enqueues on torch's stream.

        Raises:
            BackendError: No plan takes these rows, or memory is short.
            ValueError: Buffers of unequal rows, or of a wrong dtype, device or layout.
        """
        tensors = buffers.inputs(self.spec)
        rows = len(buffers.t)
        plan = self._plan_for(rows)
        (name,) = plan.outputs
        outputs = {name: buffers.out}
        self._check_tensors(plan, rows, {**tensors, **outputs})
        with on_device(self.device):
            context = plan.context(rows)
            plan.bind(context, rows, tensors, outputs)

        def call(_keep: NetworkBuffers = buffers) -> None:
            if not context.execute_async_v3(self._stream()):
                raise plan.failed_run(rows)

        self._contexts[call] = context
        return call

    def describe(self) -> dict[str, Any]:
        """Backend, library, version, device, and the plans' rows."""
        return {
            "backend": "tensorrt",
            "library": self.plans[0].library.name,
            "version": self.plans[0].library.version,
            "device": str(self.device),
            "engines": [
                {"plan": plan.label, "rows": list(plan.rows), "tuned": plan.tuned}
                for plan in self.plans
            ],
        }

    def _plan_for(self, rows: int) -> TrtPlan:
        for plan in self.plans:  # static ones first
            if plan.rows[0] <= rows <= plan.rows[1]:
                return plan
        have = ", ".join(rows_text(plan.rows) for plan in self.plans)
        command = self.plans[0].command.partition(" --batch")[0].partition(" --dynamic")[0]
        raise BackendError(
            f"no TensorRT plan of this bundle takes {rows} rows; its plans take {have}; "
            f"run: {command} --batch {rows}"
        )

    def _check_tensors(self, plan: TrtPlan, rows: int, tensors: dict[str, torch.Tensor]) -> None:
        dtypes = {name: dtype for name, (_, dtype) in (plan.inputs | plan.outputs).items()}
        for name, tensor in tensors.items():
            dtype = dtype_name(tensor)
            if tensor.shape[0] != rows:  # TensorRT would read past the end, or broadcast
                raise ValueError(f"{name!r} has {tensor.shape[0]} rows, the times have {rows}")
            if dtype != dtypes[name]:
                raise ValueError(f"{name!r} is {dtype}; the plan takes {dtypes[name]}")
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


def _check_plan(plan: TrtPlan, spec: DenoiserSpec) -> None:
    wanted = {
        spec.name: (spec.shape, None),
        **{time.name: ((), "float32") for time in spec.times},
        **{c.name: (c.shape, c.interface) for c in spec.conditions},
    }
    if set(plan.inputs) != set(wanted):
        raise BackendError(
            f"{plan.label} has the inputs {', '.join(plan.inputs)}; the spec names "
            f"{', '.join(wanted)}; run: {plan.command}"
        )
    if len(plan.outputs) != 1:
        raise BackendError(
            f"{plan.label} has {len(plan.outputs)} outputs; a denoiser has one; run: {plan.command}"
        )
    for name, (shape, dtype) in wanted.items():
        found = plan.inputs[name]
        if found[0] != (-1, *shape) or (dtype is not None and found[1] != dtype):
            raise BackendError(
                f"{plan.label}: input {name!r} is {found[1]} {found[0][1:]} per row; the spec says "
                f"{dtype or 'a float'} {shape}; run: {plan.command}"
            )
