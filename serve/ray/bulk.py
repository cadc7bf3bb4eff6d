"""Bulk generation on a Ray cluster: Ray Data hands the shards to workers, which write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.engine import Engine
from revstep.serve.bulk.generate import Draw, check_begun, draw_shard
from revstep.serve.bulk.plan import Plan, Shard


class ShardWriter:
    """A worker: loads the bundle once, then draws shards.

    It refuses where its bits may differ from those of the process that began the job.

    Args:
        engine: Crosses to the worker as its ``load`` call.
        plan: The job.
        folder: Where files go: the same for all workers.
    """

    def __init__(self, engine: Engine, plan: Plan, folder: str) -> None:
        self._engine, self._plan, self._folder = engine, plan, Path(folder)
        check_begun(engine, Path(engine.describe()["bundle"]), plan, self._folder)
        self._shards = plan.shards

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """Writes the shards of a batch; gives their numbers."""
        for number in batch["shard"].tolist():
            draw_shard(self._engine, self._plan, self._shards[number], self._folder)
        return {"shard": np.asarray(batch["shard"])}


def draw_with_ray(
    engine: Engine, folder: Path, *, workers: int, cpus: float, gpus: float = 0.0
) -> Draw:
    """What draws shards on the cluster that this process is connected to.

    Args:
        engine: Of a bundle whose path every node sees.
        folder: Absolute; every node sees it.
        workers: Processes with an engine, at most.
        cpus: CPUs that each one takes: its network's threads.
        gpus: GPUs that each one takes.
    """
    import ray

    def draw(plan: Plan, shards: list[Shard]) -> Iterator[Shard]:
        if not shards:
            return
        by_number = {shard.number: shard for shard in shards}
        options: dict[str, Any] = {"num_gpus": gpus} if gpus else {}
        numbers = ray.data.from_items(
            [{"shard": number} for number in by_number], override_num_blocks=len(by_number)
        )
        written = numbers.map_batches(
            ShardWriter,
            fn_constructor_args=(engine, plan, str(folder)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=max(1, min(workers, len(shards)))
            ),
            num_cpus=cpus,
            **options,
        )
        for row in written.iter_rows():
            yield by_number[int(row["shard"])]

    return draw
