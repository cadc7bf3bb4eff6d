"""The networks beside the denoiser, checked in ONNX Runtime against the bundle's reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from revstep.engine.backends.onnx_part import OrtPart
from revstep.engine.bundle.reader import Bundle
from revstep.engine.parts.decoder import LatentDecoder
from revstep.export.graph.check import WHO, open_part
from revstep.export.module.part import encoder_part, picture_part
from revstep.export.parity.bounds import recorded, resolve_bounds, wider
from revstep.export.parity.check import check_decoder_parity
from revstep.export.parity.parts import Run, check_part_parity

Parity = Mapping[str, NDArray[Any]]


def has_parts(bundle: Bundle) -> bool:
    """Whether there is anything to check."""
    spec = bundle.spec
    return bool(spec.encoders) or spec.decoder is not None or spec.picture_encoder is not None


def encoder_runs(bundle: Bundle, precision: str, threads: int | None = None) -> dict[str, Run]:
    """The bundle's encoders, opened; raises as ``PartNetwork``."""
    spec = bundle.spec
    return {
        e.name: open_part(bundle.encoder(e.name, precision), encoder_part(e, spec), threads)
        for e in spec.encoders
    }


def part_figures(
    bundle: Bundle,
    parity: Parity,
    precision: str,
    runs: Mapping[str, Run],
    threads: int | None = None,
) -> dict[str, dict[str, float]]:
    """Error and bound of the decoder, each encoder and the picture encoder, by their keys.

    ``runs`` are those of ``encoder_runs``.

    Raises:
        BackendError: One can't be opened, or fails.
        ParityError: An error above its bound.
    """
    spec, manifest, found = bundle.spec, bundle.manifest, {}
    for encoder in spec.encoders:
        part = encoder_part(encoder, spec)
        limit = wider(recorded(manifest, part.key), resolve_bounds(precision, None))
        found[part.key] = check_part_parity(runs[encoder.name], part, parity, limit)
    if (graph := bundle.picture_encoder()) is not None:
        part = picture_part(spec)
        run = open_part(graph, part, threads)
        found[part.key] = check_part_parity(run, part, parity, recorded(manifest, part.key))
    if (graph := bundle.decoder()) is not None and spec.decoder is not None:
        opened = OrtPart(graph, WHO, threads=threads)
        decode = LatentDecoder(opened, graph, spec.decoder)
        found["decoder"] = check_decoder_parity(decode, parity, recorded(manifest, "decoder"))
    return found
