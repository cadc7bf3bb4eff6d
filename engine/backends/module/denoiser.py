"""The ``torch`` backend: a live module, eager or through ``torch.compile``, on a CPU or a GPU."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from revstep.engine.backends.module.call import called
from revstep.engine.backends.module.cast import (
    cast_dtype,
    cast_weights,
    copy_module,
    weight_dtype,
)
from revstep.engine.backends.module.eval_form import EvalForm
from revstep.engine.backends.module.sync_watch import sync_reason
from revstep.engine.backends.module.threads import check_threads
from revstep.engine.backends.protocol import NetworkBuffers, index_hint
from revstep.engine.errors import BackendError
from revstep.engine.system.cores import usable_cpus

if TYPE_CHECKING:
    from revstep.engine.spec.denoiser import DenoiserSpec


DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
COMPILED_SHAPES = 256  # torch's own limit is 8, and it turns to eager without a word

_switches = threading.RLock()  # torch's TF32 switches are the process's


def prepare_module(
    module: torch.nn.Module, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module:
    """The module on a device, its floating-point weights of ``dtype``.

    What a cast leaves as it is: ``module_cast``. It is the given module where nothing must be moved
    or cast, whatever its mode, else a copy in eval mode: the caller's stays as it is.
    """
    tensors = [*module.parameters(), *module.buffers()]
    weights = weight_dtype(module)
    if all(t.device == device and t.dtype == cast_dtype(t, dtype, weights) for t in tensors):
        return module
    return cast_weights(copy_module(module), dtype, device, weights=weights).eval()


class TorchModuleDenoiser:
    """Runs ``module(x, t, *conditions)`` on bound buffers, without gradients.

    Args:
        module: Takes x (N, *shape), t (N,) and the conditions in the spec's order (``ModuleCall``
            takes other forms); returns (N, *output_shape). x and float32 conditions come in
            ``dtype``, t in float32. It is used as it is, on the device, with weights of the dtype
            (``prepare_module``), or float32 outside and 16 bits inside (``reduced_module``); where
            it is in train mode, a copy in eval mode that shares its weights runs instead
            (``EvalForm``).
        spec: The denoiser's spec.
        device: Where it runs.
        dtype: Of its weights: float32, float16 or bfloat16.
        compile: Whether it runs through ``torch.compile``, once for every number of rows.
        tf32: Whether float32 products may be rounded to TF32, on GPUs that have it.
        precision: What ``describe`` says; None: the dtype.

    Attributes:
        spec, device, dtype: As given.
        stream: None: it runs on any.
    """

    stream: torch.cuda.Stream | None = None

    def __init__(
        self,
        module: torch.nn.Module,
        spec: DenoiserSpec,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
        tf32: bool = False,
        precision: str | None = None,
    ) -> None:
        self.spec = spec
        self._precision = precision or NAMES[dtype]
        self.device = torch.device(device)
        self.dtype = dtype
        module = called(module, spec)
        self._eager = self._run = EvalForm(module)
        self._compiled = compile
        if compile:  # graphs of its own would nest in ours
            off: dict[str, Any] = {"triton.cudagraphs": False}
            self._run = EvalForm(module, partial(torch.compile, dynamic=False, options=off))
        self._tf32 = tf32
        if self.device.type == "cuda":
            _hush_switches()
        self._reason: tuple[str | None] | None = None

    @property
    def capturable(self) -> str | None:
        """None, or the operator that a CUDA graph can't hold; found by one forward pass."""
        if self._reason is None:
            rows = self.spec.batch[0]
            buffers = NetworkBuffers.allocate(self.spec, rows, self.dtype, self.device)
            call = self._call(buffers, self._eager)
            self._reason = (sync_reason(call, self.device),)
        return self._reason[0]

    def refresh(self) -> None:
        """Takes up what was changed in the module; to be called before a run."""
        self._run.refresh()

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the module from ``buffers`` into ``buffers.out``.

        Numpy buffers are taken on the CPU; tensors on the denoiser's device.
        """
        return self._call(buffers.tensors(), self._run)

    def describe(self) -> dict[str, Any]:
        """What runs: backend, version, device, precision, threads on a CPU."""
        described: dict[str, Any] = {
            "backend": "torch",
            "version": torch.__version__,
            "device": str(self.device),
            "precision": self._precision,
            "compiled": self._compiled,
        }
        if self.device.type == "cuda":
            return {**described, "gpu": torch.cuda.get_device_name(self.device), "tf32": self._tf32}
        threads, usable = torch.get_num_threads(), usable_cpus()
        described["threads"] = threads  # torch's, for the whole process: not ours to change
        return described if threads <= usable else {**described, "usable_cores": usable}

    def _call(
        self,
        buffers: NetworkBuffers,
        run: Callable[..., torch.Tensor],
    ) -> Callable[[], None]:
        x, t, *rest = buffers.inputs(self.spec).values()
        own = [c.dtype == "float32" for c in self.spec.conditions]  # others say what they are
        own = [*(False for _ in self.spec.times[1:]), *own]
        out, dtype = buffers.out, self.dtype
        kind = self.device.type

        def call() -> None:
            if kind == "cpu":
                check_threads()
            # inference mode would leave tensors in the module that can't be trained with
            with torch.no_grad(), _no_autocast(kind), _products(self.device, self._tf32):
                cast = [c.to(dtype) if yes else c for c, yes in zip(rest, own, strict=True)]
                try:
                    result = run(x.to(dtype), t, *cast)
                except IndexError as error:
                    hint = index_hint(self.spec)
                    raise BackendError(f"the module failed: {error}{hint}") from error
                except Exception as error:
                    error.add_note(_call_text(self.spec, x, t, *cast))
                    raise
                out.copy_(_checked(result, tuple(out.shape)))

        if run is self._eager:
            return call
        compiled = False

        def first_compiles() -> None:
            nonlocal compiled
            with contextlib.nullcontext() if compiled else _many_shapes():
                call()
            compiled = True

        return first_compiles


def _call_text(spec: DenoiserSpec, *inputs: torch.Tensor) -> str:
    """How the module was called, for the traceback of what it raised."""
    listed = (
        f"{name} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        for name, value in zip(spec.input_names, inputs, strict=True)
    )
    return f"revstep called the module with {', '.join(listed)}, in the spec's order"


def _checked(result: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tuple(result.shape) != shape:  # copy_ would broadcast
        raise BackendError(f"the module returned shape {tuple(result.shape)}, expected {shape}")
    return result


def _no_autocast(kind: str) -> contextlib.AbstractContextManager[Any]:
    """The caller's autocast off: an engine has one precision, whoever calls it."""
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()


def _many_shapes() -> contextlib.AbstractContextManager[Any]:
    import torch._dynamo

    patch: contextlib.AbstractContextManager[Any] = torch._dynamo.config.patch(
        recompile_limit=COMPILED_SHAPES
    )
    return patch


@contextlib.contextmanager
def _products(device: torch.device, tf32: bool) -> Iterator[None]:
    """float32 products of matrices and convolutions as asked; torch's switches are restored.

    torch lets cuDNN round convolutions to TF32 by default.
    """
    if device.type != "cuda":
        yield
        return
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    with _switches:
        try:
            before = matmul.allow_tf32, conv.allow_tf32
        except RuntimeError:  # the process has used the newer switches, which don't mix with these
            yield from _products_by_name(tf32)
            return
        matmul.allow_tf32 = conv.allow_tf32 = tf32
        try:
            yield
        finally:
            matmul.allow_tf32, conv.allow_tf32 = before


def _hush_switches() -> None:
    """Takes torch's one warning of the older switches; with the newer, ``torch.compile`` fails."""
    places: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    with _switches, warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        for place in places:
            place.allow_tf32 = place.allow_tf32


def _products_by_name(tf32: bool) -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    places: list[Any] = [torch.backends.cuda.matmul, cudnn.conv]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
