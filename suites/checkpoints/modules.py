"""Kinds that come as a module and a spec: whole runs are held to the live module's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from revstep.engine.spec.denoiser import DenoiserSpec
from suites.checkpoints.kind import Compared, Kind, Made
from suites.support import support

if TYPE_CHECKING:
    from revstep.engine.engine import Engine
    from revstep.export import Checkpoint

ROWS, STEPS, SEED = 3, 10, 5
LIVE = "the PyTorch module, run live"


def module_kinds() -> list[Kind]:
    """Networks of the tests, each of another form."""

    def toy(name: str) -> Callable[[Path], Made]:
        return lambda _: made_of(_checkpoint(*support("toys").build(name)))

    def encoded(name: str) -> Callable[[Path], Made]:
        return lambda folder: made_of(getattr(support("encoders"), name)(folder))

    return [
        Kind(
            "images, class label, learned variance, latent decoder", "factory", LIVE, toy("image")
        ),
        Kind("action plans under an observation", "factory", LIVE, toy("policy")),
        Kind("rows of a table, rectified flow", "factory", LIVE, toy("tabular")),
        Kind("policy with an observation encoder", "factory", LIVE, encoded("observing")),
        Kind("latents with text and picture encoders", "factory", LIVE, encoded("reading")),
    ]


def made_of(checkpoint: Checkpoint, **arguments: Any) -> Made:
    """A checkpoint, its whole runs held to its own modules."""

    def export(path: Path, precisions: Sequence[str]) -> None:
        from revstep.export import export_module

        export_module(
            checkpoint.module, checkpoint.spec, path, precisions=precisions,
            decoder=checkpoint.decoder, encoders=checkpoint.encoders,
            picture_encoder=checkpoint.picture_encoder, files=checkpoint.files, **arguments,
        )  # fmt: skip

    return Made(export, lambda engine: live_run(engine, checkpoint))


def live_run(engine: Engine, checkpoint: Checkpoint) -> Compared:
    """DDIM from the same noise by the bundle's engine, and by the module in PyTorch."""
    import torch

    import revstep
    from revstep.engine.spec.denoiser import Condition
    from revstep.export.module.examples import example_condition

    spec, rng = checkpoint.spec, np.random.default_rng(SEED)

    def values(of: Sequence[Condition]) -> dict[str, Any]:
        return {c.name: example_condition(c, ROWS, rng) for c in of}

    raw = values([c for e in spec.encoders for c in e.inputs])
    encoded: dict[str, Any] = {}
    for encoder in spec.encoders:
        with torch.no_grad():
            fed = [torch.from_numpy(raw[c.name].copy()) for c in encoder.inputs]
            out = checkpoint.encoders[encoder.name](*fed)
        outputs = out if isinstance(out, tuple) else (out,)
        encoded |= {n: o.numpy() for n, o in zip(encoder.conditions, outputs, strict=True)}
    given = values([c for c in spec.conditions if c.name not in encoded])
    run: dict[str, Any] = {
        "n": ROWS,
        "seed": SEED,
        "steps": STEPS,
        "clip": False,
    }  # clipped ends are alike
    own = engine.sample(**run, conditions=given or None, inputs=raw or None)
    alone = dataclasses.replace(spec, encoders=(), picture_encoder=None, decoder=None)
    live = revstep.from_module(checkpoint.module, alone, device="cpu")
    want = live.sample(**run, conditions={**given, **encoded} or None).x
    if checkpoint.decoder is not None and spec.decoder is not None:
        with torch.no_grad():
            latents = torch.from_numpy(want) / spec.decoder.scale + spec.decoder.shift
            want = checkpoint.decoder(latents).numpy()
    return own.numpy(), want


def _checkpoint(module: Any, spec: DenoiserSpec, decoder: Any = None) -> Checkpoint:
    from revstep.export import Checkpoint

    return Checkpoint(module=module, spec=spec, decoder=decoder)
