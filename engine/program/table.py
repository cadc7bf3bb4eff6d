"""``StepProgram``: a sampler, traced over its time grid, as a table of numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_one_of
from revstep.engine.errors import ArgumentError, ProgramError
from revstep.engine.message import Argument, Message
from revstep.engine.program.guidance import GuidanceWeight, check_guidance_weight
from revstep.engine.program.history import Storage, allocate
from revstep.engine.program.points import Point, second_time
from revstep.engine.program.samplers import BaseSampler, resolve_sampler
from revstep.engine.program.steps import steps_run
from revstep.engine.program.trace import Row, Run, Sampler
from revstep.engine.program.warn import warn_of_program
from revstep.engine.renamed import renamed, renamed_fields
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid
from revstep.engine.spec.prediction import input_scale
from revstep.engine.spec.sampler_choice import COMPAT
from revstep.kernels import columns as col

FINALS = ("clean", "first")
FINITE_COLUMNS = [c for c in range(col.COLUMNS) if c not in (col.LO, col.HI)]


@renamed_fields(slots="history")
@dataclasses.dataclass(frozen=True, eq=False)
class StepProgram:
    """The rows of one run.

    Attributes:
        rows: float64 (length + 1, 32); the last row is the identity. ``kernels.columns`` names
            the columns.
        table: ``rows`` as float32, what the kernels read.
        start: (alpha, sigma) of the initial state alpha y + sigma z.
        points: Where each row calls the network, and where the run ends.
        history: How many stored values the rows use, 0 to 3.
        key: Hash of the table's bytes.
    """

    rows: NDArray[np.float64]
    table: NDArray[np.float32]
    start: tuple[float, float]
    points: tuple[Point, ...]
    history: int
    key: str

    @property
    def length(self) -> int:
        """Network calls of the run."""
        return len(self.rows) - 1


@renamed(spacing="grid")
def build_program(
    spec: DenoiserSpec,
    sampler: str | Sampler = "ddim",
    steps: int | None = None,
    *,
    grid: str | Grid | None = None,
    compat: str | None = None,
    clip: bool | None = None,
    strength: float = 1.0,
    from_noise: bool = True,
    inpaint: bool = False,
    guidance_weight: GuidanceWeight | None = None,
    final: str | None = None,
) -> StepProgram:
    """Traces ``sampler`` over ``steps`` steps.

    Args:
        spec: The denoiser's spec.
        sampler: A sampler's name, or the sampler itself.
        steps: Steps of the whole grid, 1 to the schedule's training steps; None is 20, or what a
            given grid has.
        grid: A grid's name or a grid (``revstep.engine.spec.grids``); None is the spec's.
        compat: ``diffusers`` is the run of that library's scheduler of the sampler's name: its
            calls, stepping, start, clipping and final noise (docs/diffusers-configs.md).
        clip: Whether x0 is clipped to the spec's value range; None is the spec's (and with compat
            no, where the scheduler doesn't know ``clip_sample``).
        strength: In (0, 1]: only the last ceil(strength * steps) steps run (Meng et al. 2022);
            with compat int(strength * steps), as in that library's pipelines (``steps_run``).
        from_noise: Whether the run starts at sigma z (y = 0) rather than at alpha y + sigma z.
        inpaint: Whether rows carry the known pixels' (alpha, sigma).
        guidance_weight: w of the effective guidance 1 + w (g - 1), as a function of the point of
            the network call; None is 1.
        final: Where the run ends: ``clean`` (sigma = 0) or ``first`` (training index 0); None is
            the spec's.

    Raises:
        TypeError: A guidance weight that is no hashable function, or gives no number.
        ValueError: An argument out of range.
        ProgramError: The sampler can't be a program here; the message names step and reason.
    """
    if compat is not None:
        check_one_of(compat, "compat", COMPAT, " or None")
    trace = resolve_sampler(sampler)
    stepping = trace.stepping if compat else None
    spec = _ending(spec if stepping is None else stepping.spec(spec), trace, final)
    if clip is None:
        clip = spec.clip and (stepping is None or stepping.clips)
    if clip and spec.value_range is None:
        text = " needs a spec with a value_range; this one has none"
        raise ArgumentError(Message(Argument("clip", True), text), "clip")
    check_guidance_weight(guidance_weight)
    walk = trace.steps_over(spec, steps, grid, compat)
    entered = walk[len(walk) - steps_run(len(walk), strength, compat, spec.schedule.kind) :]
    run = Run(spec, entered, clip=clip, compat=compat, guidance_weight=guidance_weight)
    run.finish(trace(run), entered[-1][1])
    program = _table(run, inpaint)
    warn_of_program(spec, program.rows, program.points, clip=clip)
    alpha, sigma = run.start
    pure = compat is not None and (from_noise or (inpaint and strength == 1.0))
    if pure and stepping is not None:
        sigma = stepping.start(spec, grid, run.steps[0][0])
    elif pure and spec.schedule.kind == "vp":
        sigma = 1.0
    return dataclasses.replace(program, start=(alpha * (not pure), sigma))


def _ending(spec: DenoiserSpec, trace: BaseSampler, final: str | None) -> DenoiserSpec:
    """The spec, with ``final`` of this run and sampler: ``clean`` or ``first``."""
    if final is not None:
        check_one_of(final, "final", FINALS, " or None")
    if final is None and spec.final == "first_ddim":
        final = "first" if trace.like_ddim else "clean"
    if final in (None, spec.final):
        return spec
    return dataclasses.replace(spec, final=final)


def _table(run: Run, inpaint: bool) -> StepProgram:
    updates = [row.update for row in run.rows if row.update is not None]
    storage = allocate(updates, run.tape.values, [row.line for row in run.rows])
    with np.errstate(over="ignore"):
        rows = np.array(
            [
                _row(run, i, row, kept, inpaint)
                for i, (row, kept) in enumerate(zip(run.rows, storage, strict=True))
            ]
        )
        last = run.rows[-1]
        end = col.identity_row(
            time=last.at.time,
            c_in=_c_in(run.spec, last.arrive or last.at),
            time_2=second_time(run.spec, last.at, last.to),
        )
        rows = np.vstack([rows, np.asarray(end, dtype=np.float64)[None]])
        table = rows.astype(np.float32)
    _check_finite(table, run.rows)
    points = (*(row.at for row in run.rows), last.arrive or last.at)
    for array in (rows, table):
        array.setflags(write=False)
    key = hashlib.sha256(table.tobytes()).hexdigest()
    return StepProgram(rows, table, (0.0, 0.0), points, 1 + int(rows[:, col.STORE].max()), key)


def _row(run: Run, number: int, row: Row, kept: Storage, inpaint: bool) -> list[float]:
    update, arrive = row.update, row.arrive
    assert update is not None
    assert arrive is not None
    out = [0.0] * col.COLUMNS
    out[col.TIME] = row.at.time
    out[col.TIME_2] = second_time(run.spec, row.at, row.to)
    out[col.C_IN] = _c_in(run.spec, row.at)
    out[col.P_X], out[col.P_M] = row.p_x, row.p_m
    out[col.LO], out[col.HI] = -math.inf, math.inf
    if run.clip and run.spec.value_range is not None:
        out[col.LO], out[col.HI] = run.spec.value_range
    out[col.C_X] = update.own(number, "x") + kept.x
    out[col.C_M] = update.own(number, "m")
    out[col.C_0] = update.own(number, "0")
    out[col.H_1 : col.H_3 + 1] = kept.history
    out[col.S] = update.own(number, "z")
    out[col.W] = row.weight
    out[col.K_X : col.KH_3 + 1] = kept.stored
    out[col.STORE], out[col.NOISE] = kept.into, number
    if row.log_betas is not None:
        out[col.LOG_BETA], out[col.LOG_BETA_TILDE] = row.log_betas
    if inpaint:
        end = number == len(run.rows) - 1  # what comes out is data: the known pixels themselves
        out[col.KNOWN_ALPHA] = 1.0 if end else arrive.alpha
        out[col.KNOWN_SIGMA] = 0.0 if end else arrive.sigma
    out[col.ACTIVE] = 1.0
    return out


def _c_in(spec: DenoiserSpec, at: Point) -> float:
    return input_scale(spec.prediction, at.alpha, at.sigma, spec.sigma_data)


def _check_finite(table: NDArray[np.float32], rows: Sequence[Row]) -> None:
    bad = np.argwhere(~np.isfinite(table[:, FINITE_COLUMNS]))
    if len(bad) == 0:
        return
    number, column = int(bad[0][0]), FINITE_COLUMNS[int(bad[0][1])]
    row = rows[min(number, len(rows) - 1)]
    at = row.at
    fix = "look at the numbers that this sampler's vectors are scaled by"
    if at.alpha == 0.0 or at.sigma == 0.0 or (row.arrive is not None and row.arrive.sigma == 0.0):
        fix = (
            "this sampler needs a limit that does not exist there. At alpha = 0 train with "
            "'v_prediction' or start the grid later; at sigma = 0 end the grid earlier"
        )
    raise ProgramError(
        f"step {number} (time {at.t:g}, alpha {at.alpha:g}, sigma {at.sigma:g}; {row.line}) has no "
        f"finite {col.NAMES[column]}, but {table[number, column]}: {fix}"
    )
