"""``load``: from a bundle on disk to an ``Engine``."""

from __future__ import annotations

import logging
from pathlib import Path

from revstep.engine.backends.ort_session import OrtDenoiser
from revstep.engine.bundle import Bundle
from revstep.engine.decoder import LatentDecoder
from revstep.engine.engine import Engine
from revstep.engine.errors import BackendError

__all__ = ["load"]

BACKENDS = ("auto", "onnxruntime")
DEVICES = ("auto", "cpu")

log = logging.getLogger("revstep")


def load(
    path: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str | None = None,
    verify: bool = True,
    reproducible: bool = False,
    threads: int | None = None,
) -> Engine:
    """An engine that samples the bundle at ``path``.

    Args:
        path: A ``.revstep`` directory.
        backend: ``onnxruntime``, or ``auto``.
        device: ``cpu``, or ``auto``.
        precision: ``fp32``, ``fp16``, ...: one that the bundle holds; None prefers fp32.
        verify: Compare every file's sha256 with the manifest's.
        reproducible: A sample's bits never depend on its batch: every network call is padded to
            one fixed number of rows.
        threads: Threads inside a network operator; None is the backend's choice (all cores).

    Raises:
        BundleError: The bundle is damaged, of another version, or lacks the precision.
        BackendError: The backend is missing or can't run the bundle.
        ValueError: An unknown backend or device, or threads below 1.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; allowed: {', '.join(BACKENDS)}")
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; allowed: {', '.join(DEVICES)}")
    bundle = Bundle.open(path, verify=verify)
    chosen = precision or ("fp32" if "fp32" in bundle.precisions else bundle.precisions[0])
    graph = bundle.graph(chosen)
    if chosen == "bf16":
        raise BackendError(
            "ONNX Runtime has no bf16 convolutions on a CPU; use precision='fp32' or 'fp16'"
        )
    if chosen != "fp32" and bundle.spec.prediction == "mean":
        log.warning(
            "%s predicts 'mean', which at noisy times is multiplied by thousands to give x0: "
            "%s outputs are too coarse for that; prefer precision='fp32'",
            path, chosen,
        )  # fmt: skip
    denoiser = OrtDenoiser(graph, bundle.spec, threads=threads)
    decoder = None
    decoder_graph = bundle.decoder()
    if decoder_graph is not None and bundle.spec.decoder is not None:
        decoder = LatentDecoder(decoder_graph, bundle.spec.decoder, threads=threads)
    checked = any(
        entry.target == "onnxruntime" and entry.precision == chosen for entry in bundle.compiled
    )
    if not checked:
        log.warning(
            "%s (%s) has not been checked against PyTorch on ONNX Runtime; run: "
            "revstep compile %s --target onnxruntime --precision %s",
            path, chosen, path, chosen,
        )  # fmt: skip
    return Engine(
        denoiser,
        decoder=decoder,
        reproducible=reproducible,
        details={"bundle": str(path), "precision": chosen, "checked": checked},
    )
