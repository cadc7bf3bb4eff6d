"""Bulk generation on a Ray cluster: Ray Data hands the shards to workers, which write them."""

from __future__ import annotations

import logging
import pickle
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.engine import Engine
from revstep.engine.system.files import PARTIAL
from revstep.serve.bulk.generate import Draw, check_begun, draw_shard
from revstep.serve.bulk.plan import Plan, Shard

DEATHS = 3  # of workers that draw a shard, before the job gives up: its memory may be too small
TASKS = 10_000  # Ray holds some kB for each

log = logging.getLogger("revstep")


class ShardWriter:
    """A worker: loads the bundle once, then draws shards.

    It refuses where its bits may differ from those of the process that began the job. What it
    raises comes back as a value: Ray's own errors have the text of a cause alone, and a page of it.

    Args:
        engine: Pickled: its ``load`` call.
        plan: The job.
        folder: Where files go: the same for all workers.
    """

    def __init__(self, engine: bytes, plan: Plan, folder: str) -> None:
        self._pickled, self._plan, self._folder = engine, plan, Path(folder)
        self._engine: Engine | None = None
        self._shards = plan.shards

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
        """Writes the shards of a batch; gives their numbers, and what was raised, pickled."""
        error = b""
        try:
            for number in batch["shard"].tolist():
                self._write(self._shards[number])
        except Exception as raised:
            error = _pickled(raised)
        n = len(batch["shard"])
        return {
            "shard": np.asarray(batch["shard"]),
            "error": np.array([error] * n, object),
            "node": np.array([platform.node()] * n, object),
        }

    def _write(self, shard: Shard) -> None:
        name = self._plan.file_name(shard)
        tries = self._folder / f".{name}.tries{PARTIAL}"  # a byte each; Ray tries without end
        if tries.exists() and tries.stat().st_size >= DEATHS:
            raise MemoryError(
                f"{DEATHS} workers died drawing {name}: give smaller shards, or memory"
            )
        with tries.open("ab") as file:
            file.write(b".")
        try:
            draw_shard(self._ready(), self._plan, shard, self._folder)
        finally:
            tries.unlink(missing_ok=True)

    def _ready(self) -> Engine:
        if self._engine is None:
            engine: Engine = pickle.loads(self._pickled)
            bundle = Path(engine.describe()["bundle"])
            check_begun(engine, bundle, self._plan, self._folder)
            self._engine = engine
        return self._engine


def draw_with_ray(
    engine: Engine, folder: Path, *, workers: int, cpus: float, gpus: float = 0.0
) -> Draw:
    """What draws shards on the cluster that this process is connected to.

    It raises what a worker raises.

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
            [{"shard": number} for number in by_number],
            override_num_blocks=min(len(shards), TASKS),
        )
        written = numbers.map_batches(
            ShardWriter,
            fn_constructor_args=(pickle.dumps(engine), plan, str(folder)),
            batch_size=1,
            # all at once, and no shard waits for one worker while another has nothing to do
            compute=ray.data.ActorPoolStrategy(
                size=min(workers, len(shards)), max_tasks_in_flight_per_actor=1
            ),
            num_cpus=cpus,
            **options,
        )
        for row in written.iter_rows():
            if row["error"]:
                log.error("%s failed on %s", plan.file_name(by_number[row["shard"]]), row["node"])
                raise pickle.loads(row["error"])
            yield by_number[int(row["shard"])]

    return draw


def _pickled(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # errors of others need not cross
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data
