"""The rows of one run of a diffusers scheduler, in that scheduler's own coordinates."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.program.samplers import (
    DDIM,
    LMS,
    PNDM,
    TCD,
    BaseSampler,
    Consistency,
    DPMSolverPP2S,
    SASolver,
    UniPC,
)
from revstep.engine.program.samplers.dpm_solver import FEW_STEPS
from revstep.engine.program.steps import Steps
from revstep.engine.program.table import StepProgram, build_program
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.compat.calls import (
    Process,
    by_index,
    by_level,
    by_timestep,
    in_pairs,
    index_point,
    stride_of,
)
from revstep.export.compat.family import Family
from revstep.export.compat.walks import PLMS, LMSFrom, Over
from revstep.kernels import columns as col

Options = tuple[tuple[str, Any], ...]
PROCESSES: dict[str, Process] = {"flow": "flow", "ve": "edm"}
CLIPPED = "use_clipped_model_output"
INTO_STATE = [col.C_M, col.C_0, col.H_1, col.H_2, col.H_3, col.S]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The rows of a run.

    Attributes:
        rows: float64 (N + 1, 32): a row for each call, and the identity.
        history: How many stored values they use.
        inputs: What ``scale_model_input`` multiplies a sample with, for each call.
        draws: Whether each call draws noise.
        anchors: What each call still takes of its sample, where it goes on from an earlier one.
        timesteps: Those of the calls.
    """

    rows: NDArray[np.float64]
    history: int
    inputs: tuple[float, ...]
    draws: tuple[bool, ...]
    anchors: tuple[str | None, ...]
    timesteps: tuple[float, ...]


def make_plan(
    scheduler: Any,
    family: Family,
    spec: DenoiserSpec,
    sampler: BaseSampler,
    *,
    begin: int,
    timesteps: list[int] | None = None,
    options: Options = (),
) -> Plan:
    """The plan of the calls from the ``begin``-th on.

    Args:
        scheduler: The live scheduler, whose timesteps are set.
        family: Its family.
        spec: What its config says of the network.
        sampler: What its config says of the sampler.
        begin: The first call, as the scheduler counts them.
        timesteps: For schedulers that go by the timestep: those of the calls.
        options: Of its ``step``: DDIM's ``eta``, LMS's ``order``.

    Raises:
        ProgramError: The sampler can't be a program over these calls.
    """
    given = dict(options)
    process = PROCESSES.get(spec.schedule.kind, "vp")
    if family.kind in ("timesteps", "plms"):
        assert timesteps is not None
        steps = by_timestep(scheduler, timesteps)
        if isinstance(sampler, DDIM) and given:
            sampler = DDIM(eta=given["eta"], epsilon="rederive" if given[CLIPPED] else "keep")
        if isinstance(sampler, PNDM):
            sampler = _plms(scheduler, timesteps)
    elif family.kind == "indices":
        steps = by_index(scheduler, begin, to_clean=not isinstance(sampler, TCD))
        if isinstance(sampler, TCD):
            sampler = dataclasses.replace(sampler, gamma=given["eta"])
    elif family.kind == "pairs":
        steps = in_pairs(scheduler, process, begin)
    else:
        steps = by_level(scheduler, process, begin)
    parts = _from_the_middle(sampler, steps, scheduler, begin, given)
    programs = [_program(part, over, spec) for part, over in parts]
    noisy = isinstance(sampler, Consistency | SASolver) or getattr(sampler, "eta", 0.0) > 0.0
    if isinstance(sampler, Consistency) and family.scales_input:
        noisy = len(scheduler.timesteps) > 1  # consistency models' own
    rows = [_scaled(program) if family.scaled else program.rows for program in programs]
    points = [point for program in programs for point in program.points[:-1]]
    table = np.vstack([*(r[:-1] for r in rows[:-1]), rows[-1]])
    anchors = _anchors(family, parts, scheduler, begin)
    if family.kind == "levels" and len(scheduler.timesteps) == len(scheduler.sigmas):
        table, anchors = _and_stays(table), (*anchors, None)
        points.append(programs[-1].points[-1])
    count = len(table) - 1
    return Plan(
        rows=table,
        history=max(program.history for program in programs),
        inputs=tuple(
            at.alpha if family.scaled else float(row[col.C_IN])
            for at, row in zip(points, table, strict=False)
        ),
        draws=tuple(
            bool(row[col.S] != 0.0) or (noisy and family.draws == "always") for row in table[:count]
        ),
        anchors=anchors,
        timesteps=tuple(timesteps or scheduler.timesteps.tolist()[begin:]),
    )


def _program(sampler: BaseSampler, steps: Steps, spec: DenoiserSpec) -> StepProgram:
    stepping = sampler.stepping
    if stepping is not None:
        spec = stepping.spec(spec)
    clip = spec.clip and (stepping is None or stepping.clips)
    return build_program(
        spec, Over(sampler, steps), compat="diffusers", clip=clip, from_noise=False
    )


def _and_stays(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """With a call at the last sigma, too, which leaves the sample as it is: LTX's own sigmas."""
    stays = rows[-1:].copy()
    stays[:, col.ACTIVE] = 1.0
    return np.vstack([rows[:-1], stays, rows[-1:]])


def _scaled(program: StepProgram) -> NDArray[np.float64]:
    """The rows over x / alpha in place of x."""
    rows = program.rows.copy()
    alphas = np.array([point.alpha for point in program.points])
    now, then = alphas[:-1, None], alphas[1:, None]
    rows[:-1, [col.P_X, col.K_X, col.C_X]] *= now
    rows[:-1, [col.C_X, *INTO_STATE]] /= then
    return rows


def _plms(scheduler: Any, timesteps: list[int]) -> PLMS:
    if len(timesteps) == 1:
        return PLMS()
    return PLMS(above=index_point(scheduler, timesteps[1] + stride_of(scheduler)))


def _from_the_middle(
    sampler: BaseSampler, steps: Steps, scheduler: Any, begin: int, options: dict[str, Any]
) -> list[tuple[BaseSampler, Steps]]:
    """What is traced: a sampler counts its own steps, diffusers' those before ``begin``, too."""
    if isinstance(sampler, LMS):
        order = options["order"]
        before = tuple(scheduler.sigmas.tolist()[max(begin - order + 1, 0) : begin])
        return [(LMSFrom(order=order, before=before), steps)]
    if isinstance(sampler, UniPC):
        skipped = tuple(step - begin for step in sampler.disable_corrector if step >= begin)
        return [(dataclasses.replace(sampler, disable_corrector=skipped), steps)]
    if isinstance(sampler, DPMSolverPP2S):
        if begin % 2 and len(steps) > 1:  # the first call has lost the one before it
            return [(sampler, steps[:1]), (sampler, steps[1:])]
        return [(sampler, steps)]
    if hasattr(sampler, "lower_order_final") and not isinstance(sampler, SASolver):
        few = sampler.lower_order_final and len(scheduler.timesteps) < FEW_STEPS
        sampler = dataclasses.replace(sampler, lower_order_final=few)  # type: ignore[type-var]
    return [(sampler, steps)]


def _anchors(
    family: Family, parts: list[tuple[BaseSampler, Steps]], scheduler: Any, begin: int
) -> tuple[str | None, ...]:
    """For each call, ``family.anchor`` where it goes on from an earlier sample."""
    found: list[str | None] = []
    for sampler, steps in parts:
        count = len(steps) * 2 - 1 if family.kind == "pairs" else len(steps)
        for number in range(count):
            if isinstance(sampler, UniPC):
                anchored = number > 0 and number - 1 not in sampler.disable_corrector
            elif isinstance(sampler, SASolver):
                anchored = number > 0 and sampler.corrector > 0
            elif isinstance(sampler, PNDM):
                anchored = number == 1
            elif isinstance(sampler, DPMSolverPP2S):
                last = number == count - 1
                final = steps[-1][1].sigma == 0.0 or (sampler.lower_order_final and count % 2 == 0)
                anchored = number % 2 == 1 and not (last and final)
            else:
                anchored = family.kind == "pairs" and number % 2 == 1
            found.append(family.anchor if anchored else None)
    return tuple(found)
