"""``Batch``: the checked arrays of samples that run one program, and how many go into one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_whole
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message
from revstep.engine.spec.denoiser import DenoiserSpec


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Samples that share the network calls of one run.

    Attributes:
        seeds: uint64 (B,).
        guidance: float32 (B,); 1 needs no unconditional network row.
        conditions: name -> (B, *shape).
        null_conditions: name -> (B, *shape), for the unconditional rows.
        start: y of the initial state alpha y + sigma z, float32 (B, *shape), or None.
        noise: z of the initial state, float32 (B, *shape), or None: drawn from the seeds.
        mask: 1 where pixels are known, float32 (B, *shape), or None; the program then carries the
            known pixels' (alpha, sigma).
        known: What they are, float32 (B, *shape); given with ``mask`` or not at all.
        guided: The samples that need an unconditional row.
    """

    seeds: NDArray[np.uint64]
    guidance: NDArray[np.float32]
    conditions: dict[str, NDArray[Any]]
    null_conditions: dict[str, NDArray[Any]]
    start: NDArray[np.float32] | None = None
    noise: NDArray[np.float32] | None = None
    mask: NDArray[np.float32] | None = None
    known: NDArray[np.float32] | None = None
    guided: NDArray[np.intp] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        # no cached_property: Python 3.11's lock is the class's, and a fork may leave it held
        object.__setattr__(self, "guided", (self.guidance != 1.0).nonzero()[0])

    @property
    def rows(self) -> int:
        """Network rows that the batch needs."""
        return len(self.seeds) + len(self.guided)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.seeds)

    def with_values(
        self,
        seeds: NDArray[np.uint64],
        conditions: dict[str, NDArray[Any]],
        null_conditions: dict[str, NDArray[Any]],
        noise: NDArray[np.float32] | None,
    ) -> Batch:
        """The same with other seeds, conditions and noise, of the same shapes."""
        made = object.__new__(Batch)  # their guided samples are known
        vars(made).update(
            vars(self), seeds=seeds, conditions=conditions, null_conditions=null_conditions,
            noise=noise,
        )  # fmt: skip
        return made

    def part(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` as a batch of their own."""
        if start == 0 and stop >= self.n:
            return self
        cut = slice(start, stop)
        return Batch(
            seeds=self.seeds[cut],
            guidance=self.guidance[cut],
            conditions={k: v[cut] for k, v in self.conditions.items()},
            null_conditions={k: v[cut] for k, v in self.null_conditions.items()},
            **{
                name: None if (value := getattr(self, name)) is None else value[cut]
                for name in ("start", "noise", "mask", "known")
            },
        )


def samples_per_batch(
    spec: DenoiserSpec, batch: Batch, asked: int | None, fixed_rows: int | None
) -> int:
    """Samples per batch: a guided sample takes two network rows.

    Args:
        spec: The denoiser's spec.
        batch: What is drawn.
        asked: The caller's ``batch_size``; None: as many as a call takes.
        fixed_rows: Rows of every network call, where they are fixed.

    Raises:
        TypeError: ``asked`` is no whole number.
        ValueError: More than the denoiser takes.
    """
    rows = 2 if len(batch.guided) else 1
    largest = (fixed_rows or spec.batch[1]) // rows
    if largest < 1:
        raise ArgumentError(
            Message(
                "guidance needs 2 network rows per sample; this denoiser takes "
                f"{spec.batch[1]}: export it with a larger batch range, or use ",
                Argument("guidance", 1),
            ),
            "guidance",
        )
    if asked is None:
        return largest
    more = (
        f" with {rows} network row(s) per sample on this engine; export with a larger batch range "
        "for more"
    )
    return check_whole(asked, "batch_size", 1, largest, numpy=True, more=more)
