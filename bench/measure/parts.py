"""A whole request, from its prompts to its pixels: what each of a bundle's networks takes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

from numpy.typing import NDArray

from revstep.bench.measure.disturbance import disturbance, read_counters
from revstep.bench.measure.measure import Work
from revstep.bench.measure.memory import peaks, reset_peaks
from revstep.bench.measure.part_inputs import Asked, in_turn
from revstep.bench.measure.rounds import Budget, Progress, Task, run_rounds
from revstep.bench.measure.summary import cost_of, distribution_of
from revstep.engine.bundle.layout import part_precision
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import ParityError
from revstep.engine.spec.encoder import Encoder
from revstep.export.parity.bounds import finding, recorded, relative_error, wider, within

REQUEST, LOOP = "request", "loop"
APART = ("picture_encoder",)  # a request of prompts or inputs alone doesn't run it


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A network beside the denoiser, as a request of the cell has it run.

    Attributes:
        key: As bundles call it: ``decoder``, ``picture_encoder``, ``encoder.<name>``.
        rows: Of each of its calls: those of the samples, and of what they are guided away from.
        run: Runs it on the reference's inputs, in turn; gives what the reference has of it.
        wanted: That of the reference, as many rows.
    """

    key: str
    rows: tuple[int, ...]
    run: Callable[[], Sequence[NDArray[Any]]]
    wanted: Sequence[NDArray[Any]]

    @property
    def task(self) -> Task:
        """It, as rounds run it."""
        return Task(self.key, lambda _: self.run())


def measure_parts(
    work: Work, budget: Budget, *, price: float | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Times whole requests and each network that they run, in turns.

    A whole request is one call of ``Engine.sample`` with prompts or raw inputs, decoded. Its
    networks are called alone beside it, on as many rows; the loop is the run that the cell's own
    figures are of. What is left of a request are its prompts' tokens, checks and copies, and what
    its networks cost each other.

    Args:
        work: The cell, of a bundle that has networks beside its denoiser.
        budget: When it ends.
        price: Of the machine, an hour.
        progress: As of ``run_rounds``.

    Returns:
        ``asked`` (what a request has), ``rows`` of each part's calls, ``correct``, ``stopped``,
        ``warm_ups``, ``times`` (a summary of each task: ``request``, ``loop`` and the parts),
        ``rest_s`` (the median of what a request takes beyond its parts in the same round),
        ``memory``, ``cost``, ``disturbance`` and ``times_s``.

    Raises:
        ParityError: A part is wrong: nothing is timed.
        KeyboardInterrupt: Before there is a round.
    """
    asked = Asked.of(work)
    parts = parts_of(work, asked)
    correct = {part.key: check_part(part, work.bundle, work.engine.describe()) for part in parts}
    batch, sample = work.cell.batch, work.engine.sample
    tasks = [
        Task(REQUEST, lambda seed: sample(batch, **asked.arguments, seed=seed)),
        Task(LOOP, work.sample),
        *(part.task for part in parts),
    ]
    reset_peaks(work.gpu)
    before = read_counters(work.gpu)
    found = run_rounds(tasks, budget, progress=progress)
    after = read_counters(work.gpu)
    times = dict(zip((task.name for task in tasks), found.times, strict=True))
    summaries = {name: distribution_of(values) for name, values in times.items()}
    whole = summaries[REQUEST]
    return {
        "asked": asked.said,
        "rows": {part.key: list(part.rows) for part in parts},
        "correct": correct,
        "stopped": found.stopped,
        "warm_ups": found.warm_ups,
        "times": summaries,
        "rest_s": rest_of(times),
        "memory": peaks(work.gpu),
        "cost": cost_of({"samples_per_s": batch / whole["median_s"]}, price),
        "disturbance": disturbance(before, after, whole["spread"]),
        "times_s": times,
    }


def rest_of(times: Mapping[str, Sequence[float]]) -> float:
    """The median of what a request takes beyond what it runs, in the same round.

    Below 0 where that is less than the scatter of its parts.

    Args:
        times: Seconds of each round, by the tasks' names.
    """
    inside = [name for name in times if name not in (REQUEST, *APART)]
    rounds = zip(times[REQUEST], *(times[name] for name in inside), strict=True)
    return float(median(whole - sum(parts) for whole, *parts in rounds))


def parts_of(work: Work, asked: Asked) -> list[Part]:
    """The networks beside the cell's denoiser, those of a request first."""
    spec, engine, n = work.bundle.spec, work.engine, work.cell.batch
    parity = asked.parity
    found = [_encoder_part(work, asked, encoder) for encoder in spec.encoders]
    if (decode := engine.decoder) is not None:
        latents = in_turn(parity["ddim20.final"], n)
        decoded = in_turn(parity["decoder.out"], n)
        found.append(Part("decoder", (n,), lambda: (decode(latents),), (decoded,)))
    if spec.picture_encoder is not None and spec.decoder is not None:
        pixels = in_turn(parity["picture_encoder.in.picture"], n)
        made = in_turn(parity["picture_encoder.out.latent"], n)
        scaled = (made - spec.decoder.shift) * spec.decoder.scale
        run = partial(engine.encode_pictures, pixels)
        found.append(Part("picture_encoder", (n,), lambda: (run(),), (scaled,)))
    return found


def _encoder_part(work: Work, asked: Asked, encoder: Encoder) -> Part:
    key, counts = f"encoder.{encoder.name}", asked.rows_of(encoder)
    calls = [asked.inputs_of(encoder, rows) for rows in counts]

    def run() -> list[NDArray[Any]]:
        made = [work.engine.encode(inputs) for inputs in calls]
        return [values[name] for values in made for name in encoder.conditions]

    wanted = [
        in_turn(asked.parity[f"{key}.out.{name}"], rows)
        for rows in counts for name in encoder.conditions
    ]  # fmt: skip
    return Part(key, counts, run, wanted)


def check_part(part: Part, bundle: Bundle, described: Mapping[str, Any]) -> dict[str, float]:
    """``{"error": ..., "bound": ...}`` of a part against what PyTorch gave at export.

    Args:
        part: The part, with the rows that are timed.
        bundle: The bundle.
        described: The engine's description.

    Raises:
        ParityError: An error above the bound of its precision, or NaN.
    """
    runs_in = described["parts"][part.key]
    usual = part_precision(part.key, str(described.get("precision", "fp32")))
    precision = str(runs_in.get("precision", usual))
    bounds = wider(recorded(bundle.manifest, part.key), recorded(bundle.manifest, precision))
    made = part.run()
    error = max(relative_error(got, want) for got, want in zip(made, part.wanted, strict=True))
    try:
        return within(f"the {part.key}", error, bounds.forward)
    except ParityError as failed:
        raise ParityError(
            f"{bundle.path} in {runs_in['backend']} ({precision}): {finding(failed)}; what is "
            "wrong is not timed: compile it again, or use another backend or precision"
        ) from failed
