"""The networks beside the denoiser, checked in a runtime against the bundle's reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from revstep.engine.backends.onnx_part import OrtPart
from revstep.engine.backends.part import PartGraph
from revstep.engine.bundle.layout import part_precision
from revstep.engine.bundle.reader import Bundle
from revstep.engine.parts.decoder import LatentDecoder
from revstep.export.graph.check import part_network
from revstep.export.module.part import Part, decoder_part, encoder_part, picture_part
from revstep.export.parity.bounds import Bounds, recorded, resolve_bounds, wider
from revstep.export.parity.check import check_decoder_parity
from revstep.export.parity.parts import Run, check_part_parity

Parity = Mapping[str, NDArray[Any]]
Opener = Callable[[Part], PartGraph]


def has_parts(bundle: Bundle) -> bool:
    """Whether there is anything to check."""
    spec = bundle.spec
    return bool(spec.encoders) or spec.decoder is not None or spec.picture_encoder is not None


def encoder_runs(
    bundle: Bundle, precision: str, threads: int | None = None, *, opened: Opener | None = None
) -> dict[str, Run]:
    """The bundle's encoders, opened; raises as ``PartNetwork``.

    ``opened`` opens each in its runtime; None: in ONNX Runtime.
    """
    spec = bundle.spec
    opened = opened or _in_onnxruntime(bundle, precision, threads)
    return {
        e.name: part_network(opened(part), bundle.encoder(e.name, precision), part)
        for e in spec.encoders
        for part in [encoder_part(e, spec)]
    }


def part_figures(
    bundle: Bundle,
    parity: Parity,
    precision: str,
    runs: Mapping[str, Run],
    threads: int | None = None,
    *,
    opened: Opener | None = None,
    bounds: Bounds | Mapping[str, float] | None = None,
) -> dict[str, dict[str, float]]:
    """Error and bound of the decoder, each encoder and the picture encoder, by their keys.

    ``runs`` and ``opened`` are those of ``encoder_runs``; wider ``bounds`` hold for all.

    Raises:
        BackendError: One can't be opened, or fails.
        ParityError: An error above its bound.
    """
    spec, found = bundle.spec, {}
    opened = opened or _in_onnxruntime(bundle, precision, threads)

    def limit(part: Part) -> Bounds:
        own = part_precision(part.key, precision)
        return wider(recorded(bundle.manifest, part.key), resolve_bounds(own, bounds))

    for encoder in spec.encoders:
        part = encoder_part(encoder, spec)
        found[part.key] = check_part_parity(runs[encoder.name], part, parity, limit(part))
    if (graph := bundle.picture_encoder()) is not None:
        part = picture_part(spec)
        run = part_network(opened(part), graph, part)
        found[part.key] = check_part_parity(run, part, parity, limit(part))
    if (graph := bundle.decoder()) is not None and spec.decoder is not None:
        part = decoder_part(spec)
        decode = LatentDecoder(opened(part), graph, spec.decoder)
        found[part.key] = check_decoder_parity(decode, parity, limit(part))
    return found


def _in_onnxruntime(bundle: Bundle, precision: str, threads: int | None) -> Opener:
    return lambda part: OrtPart(bundle.part_graph(part.key, precision), part.what, threads=threads)
