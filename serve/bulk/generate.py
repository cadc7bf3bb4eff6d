"""Generates the shards of a plan that aren't there yet, in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from revstep.engine.arrays import array_from
from revstep.engine.engine import Engine
from revstep.engine.errors import ArgumentError
from revstep.engine.runtime.request import SEEDS
from revstep.engine.system.files import write_whole
from revstep.serve.bulk.files import remove_partial, write_shard
from revstep.serve.bulk.plan import Plan, Shard, check_same

JOB = "_job.json"  # readers of whole folders of Parquet pass over names with _ or . before them
LOCK = ".lock"

log = logging.getLogger("revstep")

Draw = Callable[[Plan, list[Shard]], Iterable[Shard]]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a bulk job did.

    Attributes:
        folder: Where the files are.
        seed: Sample 0's seed.
        files: Files in all.
        written: Files that this call wrote; the others were there.
        samples: Samples that this call drew.
    """

    folder: Path
    seed: int
    files: int
    written: int
    samples: int


def draw_shard(engine: Engine, plan: Plan, shard: Shard, folder: Path) -> None:
    """Draws a shard and writes its file.

    Args:
        engine: ``reproducible``, so that no sample's bits depend on where the shards begin.
        plan: The job.
        shard: Which.
        folder: Where.
    """
    request = plan.request(shard.first, shard.count)
    samples = engine.sample(request)
    columns: dict[str, Any] = {
        "index": np.arange(shard.first, shard.first + shard.count, dtype=np.int64),
        "seed": samples.seeds,
    }
    for name, values in (request.conditions or {}).items():
        columns[f"condition.{name}"] = array_from(values, name)
    if isinstance(request.prompt, list):
        columns["prompt"] = np.array(request.prompt)
    write_shard(folder / plan.file_name(shard), samples.numpy(), columns, plan.format)


def generate(
    engine: Engine,
    bundle: Path,
    plan: Plan,
    folder: Path,
    *,
    draw_new_seed: bool = False,
    draw: Draw | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Outcome:
    """Draws the samples of a plan into files; what is there already stays as it is.

    Args:
        engine: ``reproducible``.
        bundle: Its bundle.
        plan: The job.
        folder: Made if it isn't there.
        draw_new_seed: Whether the plan's seed counts for nothing: a job that begins draws one, and
            one that goes on has its own.
        draw: Draws shards of the plan elsewhere, and gives each once its file is there; None: one
            after the other, here.
        progress: Called with (samples there, samples in all).

    Raises:
        ArgumentError: The folder holds part of another job, or another process works in it; or a
            request that can't be.
    """
    if engine.fixed_rows is None:
        raise ArgumentError(
            "bulk jobs need an engine whose bits don't depend on the batch: load it with "
            "reproducible=True",
            "engine",
        )
    engine.resolve(plan.request(0, min(plan.n, plan.period)))  # refuses what can't be
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        plan = _begin(engine, bundle, plan, folder, draw_new_seed=draw_new_seed)
        shards = plan.shards
        left = [shard for shard in shards if not (folder / plan.file_name(shard)).exists()]
        there, written = plan.n - sum(shard.count for shard in left), 0
        if progress is not None:
            progress(there, plan.n)
        for shard in (draw or _here(engine, folder))(plan, left):
            there, written = there + shard.count, written + 1
            if progress is not None:
                progress(there, plan.n)
        remove_partial(folder, "part-")  # of workers that died
    drawn = sum(shard.count for shard in left)
    return Outcome(folder, plan.seed, len(shards), written, drawn)


def _here(engine: Engine, folder: Path) -> Draw:
    def draw(plan: Plan, shards: list[Shard]) -> Iterator[Shard]:
        for shard in shards:
            draw_shard(engine, plan, shard, folder)
            yield shard

    return draw


def _begin(engine: Engine, bundle: Path, plan: Plan, folder: Path, *, draw_new_seed: bool) -> Plan:
    """Writes down what the job is, or checks that it is the one that is there; its plan."""
    file = folder / JOB
    if file.exists():
        if draw_new_seed:
            plan = dataclasses.replace(plan, seed=_read(file)["seed"])
        check_begun(engine, bundle, plan, folder)
        remove_partial(folder, "part-", JOB)  # of this job, as its file says
        return plan
    if strange := sorted(p.name for p in folder.glob("part-*")):
        raise ArgumentError(
            f"{folder} holds {strange[0]} and no {JOB}: nobody knows what it is of; take another "
            "folder",
            "output",
        )
    if draw_new_seed:
        plan = dataclasses.replace(plan, seed=secrets.randbelow(SEEDS >> 1))
    text = json.dumps(plan.identity(engine, bundle), indent=2) + "\n"
    write_whole(file, lambda f: f.write(text.encode()))
    return plan


def check_begun(engine: Engine, bundle: Path, plan: Plan, folder: Path) -> None:
    """Checks that the job in a folder is this one, and that this machine draws the same bits.

    Raises:
        ArgumentError: It isn't; it says in what they differ.
        OSError: There is no job.
    """
    check_same(_read(folder / JOB), plan.identity(engine, bundle), folder)


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {**found, "seed": int(found["seed"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{file} can't be read: {error}; take another folder", "output"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One job at a time; the lock goes with its process, however that ends."""
    try:
        import fcntl
    except ImportError:  # not on this system: two jobs would write the same bytes
        yield
        return
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArgumentError(
                f"another process generates into {folder}; wait for it, or take another folder",
                "output",
            ) from error
        except OSError as error:  # a file system without locks, as some that are shared
            log.warning("%s can't be locked (%s): begin one job at a time there", folder, error)
        yield
