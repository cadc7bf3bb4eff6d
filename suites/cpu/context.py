"""What a part of the suite gets: the bundles, the builds, the core, and where rows go."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from revstep.bench.clock import percentiles
from revstep.bench.compare import ratio_interval
from revstep.bench.rows import append_row, new_row
from revstep.engine.system.machine import has_bf16, package_version, processor
from suites.cpu.turns import OURS, ROOT, Contender, Failed, Found, Tree, last_words, take_turns

BUCKETS = {"unet": (1, 16, 32)}  # guidance takes two rows a sample
# RMS error of a run's final state over the RMS. Compile has judged bf16 by a run of its own; here
# it is 50 steps of random weights.
BOUNDS = {"fp32": 1e-3, "bf16": 0.2}
BASELINE, EAGER, COMPILED = "last landed build", "diffusers eager", "torch.compile"


@dataclasses.dataclass
class Measurement:
    """One run of the suite.

    Attributes:
        folder: For its bundles.
        core: That everything timed is pinned to.
        started: When it began, which names it in its rows.
        baseline: The earlier build, or None.
        quick: A trial: tiny networks, few rounds, rows that no table reads.
        output: The .jsonl file, or None.
        seconds: Of ``revstep compile`` for one bundle.
    """

    folder: Path
    core: int
    started: str
    baseline: Tree | None = None
    quick: bool = False
    output: Path | None = None
    seconds: float = 20.0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    _made: dict[str, Path | Failed] = dataclasses.field(default_factory=dict)

    @property
    def precisions(self) -> tuple[str, ...]:
        """fp32, and bf16 where the processor has it and OpenVINO is installed."""
        return ("fp32", "bf16") if has_bf16() and package_version("openvino") else ("fp32",)

    @property
    def _kind(self) -> str:
        """In the names of a trial's bundles: no other run takes them for its own."""
        return "-tiny" if self.quick else ""

    def case(self, part: str, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """One row from what ``work`` finds; the reason where it fails, and the suite goes on."""
        print(f"{part}: {name} ...", flush=True)
        begun = perf_counter()
        try:
            found = work()
        except Exception as error:  # of any kind: it is this case's alone
            text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            found = {"reason": text[:400]}
            print(f"  failed: {found['reason']}", flush=True)
        self.add(part, name, **found, took=round(perf_counter() - begun, 1))

    def add(self, part: str, name: str, **figures: Any) -> None:
        """Writes one row; it is on the disk before the next is measured."""
        fields = {"run": self.started, "part": part, "name": name, "quick": self.quick}
        where = {"processor": processor(), "baseline": self.baseline and self.baseline.commit}
        row = new_row("cpu", {**fields, **where, **figures}, ROOT)
        self.rows.append(row)
        if self.output is not None:
            append_row(self.output, row)

    def bundle(self, network: str) -> Path:
        """The network's bundle as it was exported.

        Raises:
            Failed: The export failed; the text is its last line.
        """
        path = self.folder / f"{network}{self._kind}.revstep"
        tiny = ["--tiny"] if self.quick else []

        def export(made: Path) -> None:
            self._run(["suites.cpu.networks", network, str(made), *tiny], None)

        return self._once(path, export)

    def compiled(self, network: str) -> Path:
        """A copy that ``revstep compile --target cpu`` chose the runtimes of, on the one core.

        Raises:
            Failed: The export or the compile failed.
        """
        path = self.folder / f"{network}{self._kind}-compiled.revstep"
        buckets = ",".join(map(str, BUCKETS.get(network, (1, 16))))
        precision = "auto" if "bf16" in self.precisions else "fp32"
        command = [
            "--target", "cpu", "--batch", buckets, "--precision", precision,
            "--seconds", str(self.seconds),
        ]  # fmt: skip

        def compile_copy(made: Path) -> None:
            shutil.copytree(self.bundle(network), made)
            self._run(["revstep", "compile", str(made), *command], self.core)

        return self._once(path, compile_copy)

    def _once(self, path: Path, work: Callable[[Path], None]) -> Path:
        """The path, made at the first call or in an earlier run; a failure is raised every time."""
        if path.name not in self._made:
            try:
                if not path.exists():
                    unfinished = path.with_name(f"unfinished-{path.name}")
                    shutil.rmtree(unfinished, ignore_errors=True)
                    work(unfinished)
                    unfinished.rename(path)
                self._made[path.name] = path
            except Failed as error:
                self._made[path.name] = error
        found = self._made[path.name]
        if isinstance(found, Failed):
            raise found
        return found

    def _run(self, module: list[str], core: int | None) -> None:
        """``python -m``, on one core or on all."""
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        done = subprocess.run(
            [*pinned, sys.executable, "-m", *module], env=OURS.environment(), cwd=ROOT,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            said = last_words(done.stderr)
            raise Failed(f"{' '.join(module[:2])} gave {done.returncode}: {said}")

    def turns(self, contenders: list[Contender], **pace: Any) -> Found:
        """``take_turns`` on the core; a trial makes two rounds of one start."""
        if self.quick:
            pace |= {"starts": 1, "minimum": 2, "maximum": 2}
        return take_turns(contenders, core=self.core, **pace)


def figures(found: Found) -> dict[str, Any]:
    """What the turns gave, for a row: seconds, errors, what ran, and who failed."""
    seconds = {
        name: {**percentiles(flat, 1.0), "least": min(flat)}
        for name, times in found.times.items()
        if (flat := [value for start in times for value in start])
    }
    return {
        "seconds": seconds,
        "errors": found.errors,
        "told": found.told,
        "failed": found.failed,
    }


def times_as_fast(found: Found, ours: str, others: Mapping[str, str]) -> dict[str, Any]:
    """How many times as fast a contender is as others, where both have times.

    Args:
        found: What the turns gave.
        ours: The contender.
        others: Their names in the row, and as contenders.
    """
    if ours not in found.times:
        return {}
    return {
        label: ratio_interval(found.times[ours], found.times[other])
        for label, other in others.items()
        if other in found.times
    }


def last_core() -> int:
    """The last that this process may use: the first often serves interrupts."""
    return max(os.sched_getaffinity(0))
