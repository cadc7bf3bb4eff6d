"""``from_module``: an engine over a live PyTorch module, without an export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Never, Unpack

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_mapping, check_one_of, check_type
from revstep.engine.devices.choose import check_device, cuda_device
from revstep.engine.engine import Engine
from revstep.engine.errors import ArgumentError, BackendError
from revstep.engine.nearest import unknown_names
from revstep.engine.open.cuda_options import CudaKeywords, CudaOptions, cuda_options
from revstep.engine.parts.encoders import Encoders
from revstep.engine.runtime.runtime import cuda_runtime, host_runtime
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.encoder import Tokenizer

if TYPE_CHECKING:
    import torch


def from_module(
    module: torch.nn.Module,
    spec: DenoiserSpec,
    *,
    device: str = "auto",
    precision: str = "fp32",
    compile: bool = False,
    buckets: Sequence[int] | None = None,
    reproducible: bool = False,
    decoder: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    encoders: Mapping[str, torch.nn.Module] | None = None,
    output: str | int | None = None,
    cuda: CudaOptions | None = None,
    **older: Unpack[CudaKeywords],
) -> Engine:
    """An engine that samples a live module: the ``torch`` backend.

    In fp32 the module's own weights are used where they are on the device and float32: what an
    optimizer or ``load_state_dict`` writes into them is followed. Otherwise they are copied, as
    they are now; in fp16 and bf16 the copy runs under autocast, its weights cast once. Samples are
    those of eval mode whatever mode the module is in, and the module itself never runs in another
    mode than its owner has it in: where it is in train mode, a copy that shares its weights runs
    instead.

    Args:
        module: Takes x (N, *shape), t (N,) float32 and the conditions in the spec's order; returns
            (N, *output shape). Keyword-only parameters get the spec's inputs of their names; the
            tensor may be the only one in a tuple, dict or output object.
        spec: The denoiser's spec.
        device: ``auto`` (a GPU if torch has one), ``cpu``, ``cuda`` or ``cuda:<i>``.
        precision: ``fp32``, ``fp16`` or ``bf16``: of products. x, the time, float conditions and
            the sampler's state are float32 in each, norms and softmax too. The module needs no
            casts of its own.
        compile: Run it through ``torch.compile``, once for every bucket.
        buckets: Network rows that are prepared, to which calls are padded; None: on CUDA powers of
            two in the spec's batch range; on a CPU no call is padded.
        reproducible: A sample's bits never depend on its batch: every network call is padded to
            one fixed number of rows.
        decoder: Decodes final states.
        encoders: ``Encoder.name`` -> a module of its inputs, in their order, which returns the
            tensor of its one condition or a tuple of tensors; it stays where it is. Prompts need a
            bundle.
        output: Which of the module's outputs, where it returns several: a name
            (``output="sample"``) or an index.
        cuda: How it runs on a GPU; None: ``CudaOptions()``.
        **older: The options of ``CudaOptions``, which were arguments once; deprecated.

    Raises:
        BackendError: No torch, or no GPU where one is asked for. ``sample`` raises it where the
            module was moved, cast or given other weights since, or is in train mode and can't be
            copied.
        DeviceMemoryError: The GPU's memory is short.
        TypeError: ``module`` is no torch module, ``spec`` no spec, ``output`` no name or index, or
            an unknown argument.
        ValueError: An unknown device or precision, or buckets outside the spec's batch range.
    """
    cuda = cuda_options(from_module, cuda, older)
    if cuda.kernels == "aot":
        raise ValueError("kernels='aot' is of load: a live module has no bundle that holds kernels")
    check_device(device)
    try:
        import torch
    except ImportError as error:
        raise BackendError(
            "from_module needs torch, which is not installed; pip install 'revstep[cuda]'"
        ) from error
    from revstep.engine.backends.module.call import ModuleCall
    from revstep.engine.backends.module.denoiser import DTYPES, TorchModuleDenoiser
    from revstep.engine.backends.module.reduced import live_module
    from revstep.engine.backends.module.weights_place import WeightsPlace
    from revstep.engine.devices.cuda import memory_named

    check_type(module, "module", torch.nn.Module, "a torch.nn.Module")
    check_type(spec, "spec", DenoiserSpec, "a DenoiserSpec")
    check_one_of(precision, "precision", DTYPES)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.device("cpu") if device == "cpu" else cuda_device(device)
    module = ModuleCall(module, spec, output)
    fix = "use a lower precision, or a GPU with more memory"
    with memory_named(where, "loading the module", fix):
        prepared = live_module(module, spec, precision, where)
    options: dict[str, Any] = {"compile": compile, "tf32": cuda.tf32, "precision": precision}
    denoiser = TorchModuleDenoiser(prepared, spec, device=where, **options)
    if where.type == "cpu":
        if cuda.unroll:
            raise ValueError("unroll needs a GPU; on a CPU every step is called")
        runtime = host_runtime(denoiser, buckets=buckets)
    else:
        runtime = cuda_runtime(
            denoiser,
            buckets=buckets,
            graphs=cuda.graphs,
            unroll=cuda.unroll,
            warm_up=cuda.warm_up,
            max_program_rows=cuda.max_program_rows,
        )
    shared = prepared is module
    if shared:  # its owner goes on using it
        place = WeightsPlace(module.module, captured=cuda.graphs and where.type == "cuda")

        def take_up_changes() -> None:
            place.check()
            denoiser.refresh()

        runtime.before_run = take_up_changes
    details = {"weights": "the module's own" if shared else "copied from the module"}
    return Engine(
        runtime,
        decoder=decoder,
        encoders=_encoders(encoders or {}, spec, reproducible=reproducible),
        reproducible=reproducible,
        details=details,
    )


def _encoders(
    modules: Mapping[str, torch.nn.Module], spec: DenoiserSpec, *, reproducible: bool
) -> Encoders | None:
    """The live encoders; None: the spec's conditions are given as they are.

    Raises:
        ValueError: An encoder that the spec doesn't name, or one of several that is missing.
    """
    import torch

    from revstep.engine.backends.module.part import ModulePart

    check_mapping(modules, "encoders", "{'text': module}")
    names = [e.name for e in spec.encoders]
    if others := set(modules) - set(names):
        raise ValueError(unknown_names("the spec has no encoder", others, names))
    if not modules:
        return None
    for encoder in spec.encoders:
        if encoder.name not in modules:
            raise ValueError(f"encoders has no module for {encoder.name!r}, which the spec names")
        allowed = "a torch.nn.Module"
        check_type(modules[encoder.name], f"encoder {encoder.name!r}", torch.nn.Module, allowed)

    def tokenizer(of: Tokenizer) -> Never:
        raise ArgumentError(
            "a live module has no tokenizer: give token ids in inputs=, or export it with its "
            f"{of.file}",
            "prompt",
        )

    networks = {e.name: ModulePart(modules[e.name], e) for e in spec.encoders}
    return Encoders(spec, networks, tokenizer, alone=reproducible)
