"""The networks beside the denoiser, opened: decoder, encoders, picture encoder."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError
from revstep.engine.parts.decoder import LatentDecoder
from revstep.engine.parts.encoders import Encoders, Network
from revstep.engine.parts.network import encoder_network, picture_network
from revstep.engine.parts.pictures import LatentEncoder
from revstep.engine.parts.tokenizer import PromptTokenizer
from revstep.engine.spec.encoder import Encoder, Tokenizer

if TYPE_CHECKING:
    import torch


Opened = TypeVar("Opened")

log = logging.getLogger("revstep")


def open_decoder(
    bundle: Bundle, threads: int | None, where: torch.device | None
) -> LatentDecoder | None:
    """The bundle's latent decoder, if it has one; on the GPU ``where``, if ONNX Runtime can."""
    graph, spec = bundle.decoder(), bundle.spec.decoder
    if graph is None or spec is None:
        return None
    return _opened(
        lambda gpu: LatentDecoder(graph, spec, threads=threads, gpu=gpu), "latent decoder", where
    )


def open_picture_encoder(
    bundle: Bundle, threads: int | None, where: torch.device | None
) -> LatentEncoder | None:
    """The bundle's picture encoder, if it has one; where it runs as ``open_decoder``."""
    graph = bundle.picture_encoder()
    if graph is None:
        return None
    return _opened(
        lambda gpu: picture_network(graph, bundle.spec, threads=threads, gpu=gpu),
        "picture encoder",
        where,
    )


def open_encoders(
    bundle: Bundle,
    precision: str,
    threads: int | None,
    where: torch.device | None,
    *,
    keep: int,
    alone: bool,
) -> Encoders | None:
    """The bundle's encoders, if it has any; where they run as ``open_decoder``.

    Raises:
        BackendError: One can't be opened.
    """
    spec = bundle.spec
    if not spec.encoders:
        return None
    held = bundle.precisions
    if precision not in held or (precision == "bf16" and where is None):  # no ONNX Runtime's
        precision = "fp32" if "fp32" in held else held[0]

    def opened(encoder: Encoder) -> Network:
        graph = bundle.encoder(encoder.name, precision)
        return _opened(
            lambda gpu: encoder_network(graph, spec, encoder, threads=threads, gpu=gpu),
            f"encoder {encoder.name!r}",
            where,
        )

    networks = {e.name: opened(e) for e in spec.encoders}

    @functools.cache  # only who has a prompt needs the library
    def tokenizer(of: Tokenizer) -> PromptTokenizer:
        return PromptTokenizer(bundle.path / of.file, of)

    return Encoders(spec, networks, tokenizer, keep=keep, alone=alone)


def _opened(
    opener: Callable[[int | None], Opened], what: str, where: torch.device | None
) -> Opened:
    """On the GPU if ONNX Runtime can, else on the CPU, with a warning."""
    if where is not None:
        try:
            return opener(where.index)
        except BackendError as error:
            log.warning("the %s runs on the CPU: %s", what, error)
    return opener(None)
