"""``Plan``: what a bulk job draws, and what is checked before it goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.bundle.reader import Bundle
from revstep.engine.checks import check_one_of, check_whole
from revstep.engine.engine import Engine
from revstep.engine.errors import ArgumentError
from revstep.engine.program.samplers import make_sampler
from revstep.engine.runtime.request import SEEDS, Request
from revstep.engine.system.machine import processor

FORMATS = ("parquet", "npy")
SHARD_SIZE, SHARD_BYTES = 1024, 256 << 20  # at most, where nothing else is asked for
VERSION = 1
ARRAYS = ("conditions", "inputs")
TEXT = ("prompts", "negative_prompt")
GRAPHS = (".onnx", ".data", ".plan")
RUNTIME = (
    *("backend", "version", "device", "gpu", "provider"),
    *("precision", "threads", "kernels", "chosen", "parts"),
)
"""What of ``Engine.describe`` the bits may depend on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Samples that go into one file.

    Attributes:
        number: From 0.
        first: Number of its first sample.
        count: How many it has.
    """

    number: int
    first: int
    count: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A bulk job. Sample i has the seed (seed + i) mod 2^64 and value i mod m of each condition.

    Attributes:
        n: Samples in all.
        seed: That of sample 0.
        sampler: The sampler's name; None: the bundle's own runs, as in ``Engine.sample``.
        options: Its options, where it has a name.
        steps: Steps; None: 20, or what the grid has.
        guidance: Classifier-free guidance.
        grid: The time grid's name; None: the spec's.
        compat: As in ``Engine.sample``.
        clip: As in ``Engine.sample``.
        decode: Whether a bundle's latent decoder runs.
        conditions: name -> (m, *shape), in turn.
        inputs: Of the bundle's encoders: name -> (m, *shape), in turn.
        prompts: Texts, in turn; empty: none.
        negative_prompt: As in ``Engine.sample``.
        format: ``parquet`` or ``npy``.
        shard_size: Samples in a file.
    """

    n: int
    seed: int = 0
    sampler: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int | None = None
    guidance: float = 1.0
    grid: str | None = None
    compat: str | None = None
    clip: bool | None = None
    decode: bool = True
    conditions: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    inputs: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    negative_prompt: str | None = None
    format: str = "parquet"
    shard_size: int = SHARD_SIZE

    def __post_init__(self) -> None:
        check_whole(self.n, "n", 1)
        check_whole(self.seed, "seed", 0, SEEDS - 1)
        check_whole(self.shard_size, "shard_size", 1)
        check_one_of(self.format, "format", FORMATS)
        if self.options and self.sampler is None:
            raise ArgumentError("options are a sampler's: name it, too", "options")

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, in order."""
        return tuple(
            Shard(k, first, min(self.shard_size, self.n - first))
            for k, first in enumerate(range(0, self.n, self.shard_size))
        )

    @property
    def period(self) -> int:
        """So many samples have every value of every condition among them."""
        given = (*self.conditions.values(), *self.inputs.values())
        return max([1, len(self.prompts), *(len(values) for values in given)])

    def file_name(self, shard: Shard) -> str:
        """The name of a shard's file: the names sort as the samples do."""
        digits = max(5, len(str(-(-self.n // self.shard_size) - 1)))
        return f"part-{shard.number:0{digits}d}.{self.format}"

    def request(self, first: int, count: int) -> Request:
        """The request for samples ``first`` to ``first + count - 1``."""
        index = np.arange(first, first + count)
        return Request(
            n=count,
            sampler=None if self.sampler is None else make_sampler(self.sampler, **self.options),
            steps=self.steps,
            seed=(self.seed + first) % SEEDS,
            guidance=self.guidance,
            conditions={k: v[index % len(v)] for k, v in self.conditions.items()} or None,
            inputs={k: v[index % len(v)] for k, v in self.inputs.items()} or None,
            prompt=[self.prompts[k % len(self.prompts)] for k in index] if self.prompts else None,
            negative_prompt=self.negative_prompt,
            grid=self.grid,
            compat=self.compat,
            clip=self.clip,
            decode=self.decode,
        )

    def identity(self, engine: Engine, bundle: Path) -> dict[str, Any]:
        """All that the files' bits depend on, as plain JSON values.

        Args:
            engine: What draws.
            bundle: Its bundle.
        """
        manifest = Bundle.open(bundle, verify=False).manifest
        files = {
            name: entry["sha256"]
            for name, entry in manifest["files"].items()
            if name.endswith(GRAPHS)
        }
        return {
            "version": VERSION,
            **{
                field.name: getattr(self, field.name)
                for field in dataclasses.fields(self)
                if field.name not in ARRAYS and (field.name not in TEXT or self.prompts)
            },
            "options": dict(self.options),
            **{
                kind: {
                    name: {"values": len(values), "sha256": _digest(values)}
                    for name, values in given.items()
                }
                for kind in ARRAYS
                if (given := getattr(self, kind)) or kind == "conditions"
            },
            "bundle": {"spec": manifest["spec"], "files": files},
            "rows": engine.fixed_rows,
            "runtime": _runtime(engine),
        }


def shard_size_for(engine: Engine) -> int:
    """Samples per file: as memory and readers like it, in whole network calls."""
    spec, rows = engine.spec, engine.fixed_rows or 1
    shape = spec.shape if spec.decoder is None else spec.decoder.shape
    size = max(1, min(SHARD_SIZE, SHARD_BYTES // (4 * math.prod(shape))))
    return size - size % rows if size > rows else size


def _runtime(engine: Engine) -> dict[str, Any]:
    """What draws, without how fast it was."""
    described = engine.describe()
    found = {name: described[name] for name in RUNTIME if name in described}
    if "chosen" in found:
        found["chosen"] = [
            {key: value for key, value in one.items() if key != "measured_ms"}
            for one in found["chosen"]
        ]
    if found["device"] == "cpu":
        found["processor"] = processor()  # runtimes take other kernels on another one
    return found


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuses to go on with another job's files.

    Args:
        found: The identity that the folder's job has.
        wanted: The identity of this one.
        folder: The folder.

    Raises:
        ArgumentError: They differ; it says in what.
    """
    wanted = json.loads(json.dumps(wanted))  # as the file holds it
    names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if not names:
        return
    differences = "; ".join(_difference(n, found.get(n), wanted.get(n)) for n in names)
    raise ArgumentError(
        f"{folder} holds part of another job, which differs in {differences}. Go on with the same "
        "arguments, bundle and runtime, or take another folder",
        "output",
    )


def _difference(name: str, found: object, wanted: object) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        inner = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
        return ", ".join(_difference(f"{name}.{k}", found.get(k), wanted.get(k)) for k in inner)
    if isinstance(found, (dict, list)) or isinstance(wanted, (dict, list)):
        return name
    return f"{name} ({found!r} there, {wanted!r} here)"


def _digest(values: NDArray[Any]) -> str:
    data = np.ascontiguousarray(values)
    return hashlib.sha256(f"{data.dtype.str}{data.shape}".encode() + data.tobytes()).hexdigest()
