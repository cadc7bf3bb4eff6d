"""The configurations of the two models, as Triton's config.pbtxt has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from revstep.engine.bundle.layout import OUTPUT
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.serve.triton.pbtxt import Name
from revstep.serve.triton.settings import Settings
from revstep.serve.triton.tensors import TYPES, Tensor, inputs, outputs


def sampling_config(
    spec: DenoiserSpec, settings: Settings, device: str, instances: int
) -> dict[str, Any]:
    """The sampling loop on the Python backend.

    Triton batches nothing (``max_batch_size`` 0): requests of different steps share network calls
    inside of an instance, which takes any number of them at once.

    Args:
        spec: The bundle's.
        settings: How an instance runs.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<i>``.
        instances: Instances on each device; each is a process with the network loaded.
    """
    return {
        "backend": "python",
        "max_batch_size": 0,
        "input": [_field(tensor, optional=True) for tensor in inputs(spec)],
        "output": [_field(tensor) for tensor in outputs(spec)],
        "instance_group": [_instances(device, instances)],
        "parameters": settings.parameters(),
    }


def network_config(spec: DenoiserSpec, device: str) -> dict[str, Any]:
    """The network alone on the ONNX Runtime backend.

    Where one row is enough for it, Triton batches the rows of its callers; else a call is as it
    comes.

    Args:
        spec: The bundle's.
        device: As for ``sampling_config``.
    """
    least, most = spec.batch
    rows = () if least == 1 else ((-1,) if least < most else (most,))
    tensors = [
        Tensor(spec.name, "FP32", spec.shape),
        *(Tensor(time.name, "FP32", ()) for time in spec.times),
        *(Tensor(c.name, TYPES[c.interface], c.shape) for c in spec.conditions),
    ]
    batching: dict[str, Any] = {"max_batch_size": 0} if rows else {"max_batch_size": most}
    after: dict[str, Any] = {} if rows else {"dynamic_batching": {}}
    return {
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        **batching,
        "input": [_field(t, rows) for t in tensors],
        "output": [_field(Tensor(OUTPUT, "FP32", spec.output_shape), rows)],
        "instance_group": [_instances(device, 1)],
        **after,
    }


def _field(tensor: Tensor, rows: Iterable[int] = (), *, optional: bool = False) -> dict[str, Any]:
    dims = [*rows, *tensor.dims]
    field: dict[str, Any] = {"name": tensor.name, "data_type": Name(f"TYPE_{tensor.type}")}
    if dims:
        field["dims"] = dims
    else:  # Triton has no scalars: (B, 1) for callers, (B,) for the network
        field |= {"dims": [1], "reshape": {"shape": []}}
    return {**field, "optional": True} if optional and tensor.optional else field


def _instances(device: str, count: int) -> dict[str, Any]:
    """An instance group; ``auto`` leaves it to Triton, which takes every GPU that it has."""
    kind, _, number = device.partition(":")
    names = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "cuda": "KIND_GPU"}
    gpus: dict[str, Any] = {"gpus": [int(number)]} if number else {}
    return {"count": count, "kind": Name(names[kind]), **gpus}
