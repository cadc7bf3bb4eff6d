"""The networks beside the denoiser, opened: decoder, encoders, picture encoder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from revstep.engine.backends.part import OneRowPart, PartGraph
from revstep.engine.backends.registry import BACKENDS, WantedPart, installed_on_cpu
from revstep.engine.bundle.entry import CPU
from revstep.engine.bundle.layout import part_precision
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError
from revstep.engine.log import log
from revstep.engine.open.checked import PartRun, warn_unless_part_checked
from revstep.engine.open.winners import open_part_winner, part_winner
from revstep.engine.parts.decoder import LatentDecoder
from revstep.engine.parts.encoders import Encoders, Network
from revstep.engine.parts.network import encoder_network, picture_network
from revstep.engine.parts.pictures import LatentEncoder
from revstep.engine.parts.tokenizer import PromptTokenizer
from revstep.engine.spec.encoder import Encoder, Tokenizer

if TYPE_CHECKING:
    import torch


WHO = "whatever runs its denoiser,"
ANY = "onnxruntime"  # what runs every graph, wherever
Way = tuple[str, functools.partial[PartGraph], str | None]
"""Where a part runs, what opens it there, and in which backend; None: compile made it for there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Opens what a bundle has beside its denoiser, where and in what that runs, if it can.

    Attributes:
        bundle: The bundle.
        used: The backend of the denoiser; ``cpu``: what was chosen for this processor.
        precision: Its precision.
        threads: On a CPU: threads inside an operator; None: as many as the process may use.
        where: The denoiser's GPU; None: a CPU.
        alone: Whether each row is computed in a call of its own, so that its bits don't depend on
            others.
        asked: The precision that ``load`` was asked for.
        checked: Whether compile has checked the denoiser, and so might have checked these too.
        opened: Those that were opened, by their keys.
    """

    bundle: Bundle
    used: str
    precision: str
    threads: int | None
    where: torch.device | None
    alone: bool = False
    asked: str | None = None
    checked: bool = False
    opened: dict[str, PartGraph] = dataclasses.field(default_factory=dict)

    def describe(self) -> dict[str, dict[str, Any]]:
        """What runs each that was opened."""
        return {key: part.describe() for key, part in self.opened.items()}

    def decoder(self) -> LatentDecoder | None:
        """The latent decoder, if there is one; raises as ``encoders``."""
        graph, spec = self.bundle.decoder(), self.bundle.spec.decoder
        if graph is None or spec is None:
            return None
        return LatentDecoder(self._opened("decoder", "latent decoder"), graph, spec)

    def picture_encoder(self) -> LatentEncoder | None:
        """The picture encoder, if there is one; raises as ``encoders``."""
        graph = self.bundle.picture_encoder()
        if graph is None:
            return None
        opened = self._opened("picture_encoder", "picture encoder")
        return picture_network(opened, graph, self.bundle.spec)

    def encoders(self, *, keep: int) -> Encoders | None:
        """The encoders, if there are any; ``keep`` as in ``Encoders``.

        Raises:
            BackendError: One can't be opened.
        """
        bundle, spec = self.bundle, self.bundle.spec
        if not spec.encoders:
            return None

        def network(encoder: Encoder) -> Network:
            key = f"encoder.{encoder.name}"
            opened = self._opened(key, f"encoder {encoder.name!r}")
            graph = bundle.part_graph(key, bundle.precisions[0])
            return encoder_network(opened, graph, spec, encoder)

        networks = {e.name: network(e) for e in spec.encoders}

        @functools.cache  # only who has a prompt needs the library
        def tokenizer(of: Tokenizer) -> PromptTokenizer:
            return PromptTokenizer(bundle.path / of.file, of)

        return Encoders(spec, networks, tokenizer, keep=keep, alone=self.alone)

    def _opened(self, key: str, what: str) -> PartGraph:
        """In the first that can; warnings name those before it."""
        who = f"the bundle's {what}, {WHO}"
        wanted = WantedPart(self.bundle, key, self.precision, who, self.threads)
        failure: BackendError | None = None
        for title, opener, name in self._openers(wanted):
            if failure is not None:
                log.warning("the %s runs in %s: %s", what, title, failure)
            try:
                opened = opener()
                if self.checked and name is not None:
                    part = PartRun(key, what, name, _runs_in(opened, key, self.precision))
                    warn_unless_part_checked(self.bundle, part, self.used, self.precision)
                self.opened[key] = OneRowPart(opened) if self.alone else opened
                return self.opened[key]
            except BackendError as error:
                failure = error
        assert failure is not None
        raise failure

    def _openers(self, wanted: WantedPart) -> Iterator[Way]:
        """The best first."""
        for name in dict.fromkeys((self.used, ANY)):
            backend = BACKENDS.get(name)
            if backend is None:
                continue
            if self.where is not None and backend.part_on_gpu is not None:
                yield (
                    f"{backend.title} on the GPU",
                    functools.partial(backend.part_on_gpu, wanted, self.where),
                    None if backend.plans else name,
                )
        chosen = part_winner(self.bundle, wanted.key, self.asked) if self.used == CPU else None
        if chosen is not None:
            title = f"{chosen.runtime}, as it was chosen"
            yield title, functools.partial(open_part_winner, chosen, wanted), None
        wanted = wanted._replace(precision=part_precision(wanted.key, wanted.precision))
        for name in dict.fromkeys((self.used, *installed_on_cpu())):
            backend = BACKENDS.get(name)
            if backend is not None and backend.part_on_cpu is not None:
                yield (
                    f"{backend.title} on the CPU",
                    functools.partial(backend.part_on_cpu, wanted),
                    name,
                )


def _runs_in(opened: PartGraph, key: str, precision: str) -> str:
    """The precision of a part's products; ONNX Runtime has none in bf16 on a CPU."""
    described, own = opened.describe(), part_precision(key, precision)
    on_cpu = "fp32" if own == "bf16" else own
    return str(described.get("precision") or (on_cpu if described["device"] == "cpu" else own))
