"""The networks beside the denoiser, checked in a runtime against the bundle's reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from revstep.engine.backends.onnx_part import OrtPart
from revstep.engine.backends.part import PartGraph
from revstep.engine.bundle.layout import LATENT, part_precision
from revstep.engine.bundle.reader import Bundle
from revstep.engine.parts.decoder import LatentDecoder
from revstep.export.graph.check import part_network
from revstep.export.module.part import Part, encoder_part, parts_of
from revstep.export.parity.bounds import Bounds, recorded, resolve_bounds, wider
from revstep.export.parity.check import check_decoder_parity
from revstep.export.parity.parts import Run, check_part_parity

Parity = Mapping[str, NDArray[Any]]
Opener = Callable[[Part], PartGraph]
DECODER, ENCODER = "decoder", "encoder."  # keys of parts; an encoder's name follows


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
    found = {}
    opened = opened or _in_onnxruntime(bundle, precision, threads)
    for part in parts_of(bundle.spec):
        own = part_precision(part.key, precision)
        run = runs.get(part.key.removeprefix(ENCODER))
        run = run or part_run(bundle, part, opened(part), precision)
        found[part.key] = check_part_run(bundle, part, run, parity, resolve_bounds(own, bounds))
    return found


def part_run(bundle: Bundle, part: Part, opened: PartGraph, precision: str) -> Run:
    """A part's graph, opened in a runtime, as it is used: the decoder's tiles are put together.

    Raises:
        BackendError: As ``PartNetwork``.
    """
    spec, graph = bundle.spec, bundle.part_graph(part.key, precision)
    if part.key != DECODER:
        return part_network(opened, graph, part)
    assert spec.decoder is not None
    decode = LatentDecoder(opened, graph, spec.decoder)
    return lambda inputs: [decode(inputs[LATENT])]


def check_part_run(
    bundle: Bundle, part: Part, run: Run, parity: Parity, limit: Bounds
) -> dict[str, float]:
    """The largest error of what ``part_run`` gave, with its bound: ``limit``, or its own if wider.

    Raises:
        ParityError: NaN, or an error above the bound.
    """
    limit = wider(recorded(bundle.manifest, part.key), limit)
    if part.key == DECODER:  # whose inputs are the ends of the reference's run
        return check_decoder_parity(lambda latents: run({LATENT: latents})[0], parity, limit)
    return check_part_parity(run, part, parity, limit)


def _in_onnxruntime(bundle: Bundle, precision: str, threads: int | None) -> Opener:
    return lambda part: OrtPart(bundle.part_graph(part.key, precision), part.what, threads=threads)
