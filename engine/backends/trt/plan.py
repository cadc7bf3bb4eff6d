"""One TensorRT plan, deserialised: TensorRT 10.x and 11.x, TensorRT-RTX 1.x.

Tensors are bound by name, every return code is checked, and every refusal says what fixes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.backends.trt.library import Cause, TrtLibrary, calling, cause_of
from revstep.engine.errors import BackendError, DeviceMemoryError
from revstep.engine.log import log

if TYPE_CHECKING:
    import torch


Tensor = tuple[tuple[int, ...], str]
"""Shape with the rows as -1, and torch dtype's name."""

DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32",
    "BOOL": "bool",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan on disk.

    Attributes:
        path: The file.
        command: Makes it anew.
        sha256: Of its bytes, compared before TensorRT sees them; None compares nothing.
    """

    path: Path
    command: str
    sha256: str | None = None

    def read(self) -> bytes:
        """The plan's bytes.

        Raises:
            BackendError: It can't be read, or is not what was compiled.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise BackendError(
                f"{self.path} can't be read: {error}; run: {self.command}"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if self.sha256 is not None and found != self.sha256:
            raise BackendError(
                f"{self.path} has sha256 {found[:12]}..., expected {self.sha256[:12]}...: it was "
                f"cut short or changed ({len(data)} bytes); run: {self.command}"
            )
        return data


class TrtPlan:
    """One plan, ready to run.

    Args:
        plan: The plan's bytes.
        library: The TensorRT that built it.
        label: Its name in messages.
        command: Makes it anew.
        runtime_cache: TensorRT-RTX: kernels compiled by earlier runs, from ``cached_kernels``.

    Attributes:
        rows: (min, max) rows per call.
        tuned: The rows that it was tuned for.
        compiles: Whether the first run of each number of rows compiles kernels, as TensorRT-RTX's
            do, and none are known from earlier ones.
        inputs, outputs: Name -> (shape with rows as -1, torch dtype's name), in the plan's order.

    Raises:
        BackendError: It can't run here; the message says why, and which command fixes it.
    """

    def __init__(
        self,
        plan: bytes,
        library: TrtLibrary,
        *,
        label: str,
        command: str,
        runtime_cache: bytes | None = None,
    ) -> None:
        self.library = library
        self.label = label
        self.command = command
        self._since = library.lines.mark()
        try:
            with calling():
                self._runtime = library.trt.Runtime(library.logger)
        except (TypeError, RuntimeError) as error:  # without a driver none is made
            raise self._refused("can't be loaded", str(error)) from error
        runtime = self._runtime
        if hasattr(runtime, "get_engine_validity"):
            self._check_validity(plan)
        with calling():
            cuda_engine = runtime.deserialize_cuda_engine(plan)
        if cuda_engine is None:
            raise self._refused("can't be loaded")
        self._cuda_engine = cuda_engine
        self._kernel_cache: Any = None
        self.compiles = False
        self._config = self._runtime_config(runtime_cache)
        self._read_tensors()

    def _check_validity(self, plan: bytes) -> None:
        trt, runtime = self.library.trt, self._runtime
        validity, bits = runtime.get_engine_validity(plan[: runtime.engine_header_size])
        if validity != trt.EngineValidity.INVALID:
            return
        found = [
            name
            for name, value in trt.EngineInvalidityDiagnostics.__members__.items()
            if bits & int(value.value)
        ]
        raise self._refused("can't be loaded", ", ".join(found))

    def _runtime_config(self, kernels: bytes | None) -> Any:
        """How contexts are made, or None where TensorRT has no such settings (before 10.16)."""
        trt, cuda_engine = self.library.trt, self._cuda_engine
        if not hasattr(cuda_engine, "create_runtime_config"):
            return None
        runtime_config = cuda_engine.create_runtime_config()
        if not self.library.rtx:
            return runtime_config
        # The shapes of a binding never change: its kernels are compiled once, before a capture.
        runtime_config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED  # ours capture it
        kernel_cache = runtime_config.create_runtime_cache()
        self.compiles = not (kernels and kernel_cache.deserialize(kernels))
        if kernels and self.compiles:
            log.info("%s: cached kernels of another driver or GPU; compiled anew", self.label)
        if runtime_config.set_runtime_cache(kernel_cache):
            self._kernel_cache = kernel_cache
        else:
            log.warning(
                "%s: TensorRT-RTX refuses the cache of its kernels; each start compiles them anew",
                self.label,
            )
        return runtime_config

    def _read_tensors(self) -> None:
        trt, cuda_engine = self.library.trt, self._cuda_engine
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        rows = set()
        for index in range(cuda_engine.num_io_tensors):
            name = cuda_engine.get_tensor_name(index)
            dtype = str(cuda_engine.get_tensor_dtype(name)).rsplit(".", 1)[-1]
            shape = tuple(cuda_engine.get_tensor_shape(name))
            is_input = cuda_engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            ours = self.inputs if is_input else self.outputs
            ours[name] = ((-1, *shape[1:]), DTYPES.get(dtype, dtype))
            if is_input and shape[0] == -1:
                rows.add(tuple(s[0] for s in cuda_engine.get_tensor_profile_shape(name, 0)))
            elif is_input:
                rows.add((shape[0], shape[0], shape[0]))
        if not self.outputs or len(rows) != 1:
            raise BackendError(
                f"{self.label} has {len(self.outputs)} outputs and inputs of {len(rows)} ranges of "
                f"rows; a network has one range of rows, and an output; run: {self.command}"
            )
        smallest, self.tuned, largest = rows.pop()
        self.rows = (smallest, largest)

    def context(self, rows: int) -> Any:
        """An execution context, whose tensors ``bind`` binds; ``rows`` is for messages.

        Raises:
            BackendError: Out of memory.
        """
        cuda_engine = self._cuda_engine
        self._since = self.library.lines.mark()
        if self._config is not None:
            context = cuda_engine.create_execution_context(self._config)
        else:
            context = cuda_engine.create_execution_context()
        if context is None:
            raise self._refused(f"gives no execution context for {rows} rows")
        return context

    def output_shapes(
        self, context: Any, rows: int, inputs: Mapping[str, Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        """The shapes of what a context gives for inputs of these shapes, which it then takes.

        Raises:
            BackendError: A shape is refused.
        """
        self._since = self.library.lines.mark()
        for name, given in inputs.items():
            shape = tuple(given)
            if not context.set_input_shape(name, shape):
                raise self._refused(f"refuses {name!r} of shape {shape}")
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:
            raise self._refused(f"can't infer shapes for {rows} rows", str(error)) from error
        if missing:
            raise self._refused(f"lacks the shapes of {', '.join(missing)}")
        return {name: tuple(context.get_tensor_shape(name)) for name in self.outputs}

    def bind(
        self,
        context: Any,
        rows: int,
        inputs: Mapping[str, torch.Tensor],
        outputs: Mapping[str, torch.Tensor],
    ) -> None:
        """Binds a context's tensors, by name, for calls of ``rows`` rows.

        Raises:
            BackendError: Out of memory, or a shape is refused.
        """
        given = {name: tensor.shape for name, tensor in inputs.items()}
        for name, shape in self.output_shapes(context, rows, given).items():
            wanted = tuple(outputs[name].shape)
            if shape != wanted:
                raise self._refused(f"gives {shape} where the spec says {wanted}")
        for name, tensor in (*inputs.items(), *outputs.items()):
            if not context.set_tensor_address(name, tensor.data_ptr()):
                raise self._refused(f"refuses the memory of {name!r}")

    def cached_kernels(self) -> bytes | None:
        """TensorRT-RTX: the kernels that were compiled so far, for ``runtime_cache``."""
        kernel_cache = self._kernel_cache
        return None if kernel_cache is None else bytes(kernel_cache.serialize())

    def failed_run(self, rows: int) -> BackendError:
        """A run that was not enqueued as an error, explained from TensorRT's log."""
        said = self.library.lines.text(self._since)
        cause = cause_of(said)
        return _kind(cause)(
            f"{self.label} failed to run {rows} rows with {self.library.name} "
            f"{self.library.version}: {cause.text} ({said or 'no message in its log'})"
        )

    def _refused(self, what: str, reason: str = "") -> BackendError:
        said = " | ".join(part for part in (reason, self.library.lines.text(self._since)) if part)
        cause = cause_of(said)
        fix = f"; run: {self.command}" if cause.rebuild else ""
        return _kind(cause)(
            f"{self.label} {what} with {self.library.name} {self.library.version}: {cause.text}"
            f"{fix} ({said or 'no message in its log'})"
        )


def open_plan(
    file: PlanFile, library: TrtLibrary, device: str | torch.device, kernels: bytes | None = None
) -> TrtPlan:
    """A plan on disk, opened on a device; ``kernels`` are its ``runtime_cache``.

    Raises:
        BackendError: It is damaged, or can't run here.
    """
    data = file.read()
    with on_device(device):
        return TrtPlan(
            data, library, label=file.path.name, command=file.command, runtime_cache=kernels
        )


def on_device(device: str | torch.device) -> contextlib.AbstractContextManager[Any]:
    """The device as CUDA's current one; without CUDA the library itself says what is wrong."""
    import torch

    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return torch.cuda.device(device)
    return contextlib.nullcontext()


def rows_text(rows: tuple[int, int]) -> str:
    """``4``, or ``1 to 8``."""
    return str(rows[0]) if rows[0] == rows[1] else f"{rows[0]} to {rows[1]}"


def _kind(cause: Cause) -> type[BackendError]:
    return DeviceMemoryError if cause.name == "memory" else BackendError
