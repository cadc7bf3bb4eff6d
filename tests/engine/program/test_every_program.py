"""Every sampler on every grid, schedule and number of steps: finite numbers, or a refusal by name.

The fast test draws from all of it, each value of each axis often and every pair of samplers and
grids once, with a seed that a failure names; the slow one builds all pairs on every
schedule, with few steps and many.
"""

import itertools
import logging
import random

import numpy as np
import pytest

from revstep import DenoiserSpec, TimeInput, build_program
from revstep.engine.spec.grids import GRIDS
from revstep.errors import ProgramError
from revstep.grids import AYS_SD15, BetaGrid, KarrasGrid, ShiftedGrid, TimeGrid
from revstep.kernels import columns as col
from revstep.samplers import SAMPLERS
from revstep.schedules import (
    ContinuousVPSchedule,
    FlowSchedule,
    TrigFlowSchedule,
    VESchedule,
    VPSchedule,
)

SCHEDULES = {
    "linear": VPSchedule(),
    "scaled_linear": VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012),
    "cosine": VPSchedule(betas="squaredcos_cap_v2"),
    "sigmoid": VPSchedule(betas="sigmoid"),
    "zero_snr": VPSchedule(zero_terminal_snr=True),
    "short": VPSchedule(steps=50, beta_end=0.3),
    "levels": VPSchedule.from_sigmas(np.geomspace(0.002, 700.0, 200)),
    "continuous": ContinuousVPSchedule(),
    "continuous cosine": ContinuousVPSchedule(curve="cosine"),
    "ve": VESchedule(),
    "edm": VESchedule.edm(),
    "flow": FlowSchedule(),
    "trigflow": TrigFlowSchedule(),
    "snr_shift": VPSchedule(snr_shift=3.0, zero_terminal_snr=True),
}
PREDICTIONS = {
    "vp": ("epsilon", "sample", "v_prediction", "flow", "score", "mean", "edm"),
    "vp_continuous": ("epsilon", "v_prediction", "score", "mean"),
    "ve": ("epsilon", "sample", "score", "edm", "mean"),
    "flow": ("flow", "v_prediction", "epsilon", "edm"),
    "trigflow": ("edm_v", "v_prediction", "sample"),
}
TIMES = (
    TimeInput(),
    TimeInput(fractions=True),
    TimeInput(kind="unit"),
    TimeInput(kind="sigma"),
    TimeInput(kind="log_sigma"),
    TimeInput(kind="log_snr"),
    TimeInput(kind="angle"),
)
GRIDS = {
    **GRIDS,
    "karras 80": KarrasGrid(sigma_max=80.0),
    "beta index": BetaGrid(over="index"),
    "shifted": ShiftedGrid(3.0),
    "published": AYS_SD15,
    "given": TimeGrid(sigmas=(0.9, 0.5, 0.2, 0.05)),
}
STEPS = range(1, 61)
RUNS = (
    {},
    {"compat": "diffusers"},
    {"clip": True},
    {"strength": 0.4, "from_noise": False},
    {"strength": 0.05, "from_noise": False, "compat": "diffusers"},
    {"inpaint": True},
)
NOISELESS = (
    "ddim", "euler", "heun", "edm", "dpm2", "dpmpp_1s", "dpmpp_2s", "dpmpp_2m", "dpmpp_3m",
    "unipc", "deis", "lms", "ipndm", "pndm", "flow_euler", "flow_heun",
)  # fmt: skip
LONG = ("langevin", "repaint")  # five or ten network calls a step
SEED = random.SystemRandom().randrange(10**6)


class Heard(logging.Handler):
    """Whether anything was warned of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture
def heard():
    handler, logger = Heard(), logging.getLogger("revstep")
    logger.addHandler(handler)
    yield handler.messages
    logger.removeHandler(handler)


def specs():
    """(name, spec) of every schedule, prediction, end and description of time that is allowed."""
    for name, schedule in SCHEDULES.items():
        kinds = itertools.product(PREDICTIONS[schedule.kind], TIMES, ("clean", "first"))
        for prediction, time, final in kinds:
            try:
                spec = DenoiserSpec(
                    shape=(2,),
                    schedule=schedule,
                    prediction=prediction,
                    time=time,
                    final=final,
                    value_range=(-1.0, 1.0),
                )
            except ValueError as error:
                assert "can't be fed the last training index" in str(error)  # noqa: PT017
                continue
            yield f"{name}, {prediction}, {time.kind}, {final}", spec


def built(spec, sampler, grid, steps, run, heard):
    """1 if it was built, 0 if it was refused; anything else is an error."""
    heard.clear()
    steps = None if GRIDS[grid].count else steps
    try:
        program = build_program(spec, sampler, steps, grid=GRIDS[grid], **run)
    except (ValueError, ProgramError) as refusal:
        said = str(refusal)
        assert len(said) > 30, said
        assert not said.startswith(("math domain", "expected a", "cannot convert")), said
        return 0
    table = np.delete(program.table, [col.LO, col.HI], axis=1)
    assert np.all(np.isfinite(table))
    assert np.all(np.isfinite(program.start))
    assert program.length >= 1
    if sampler in NOISELESS and spec.time.kind in ("index", "unit"):
        assert not np.any(program.table[:, col.S])
        assert heard or spec.time.fractions or not moved_unheard(program), "a time fed twice"
    return 1


def moved_unheard(program):
    """Whether two rows tell the network one time though their states are of other noise levels."""
    levels: dict[float, float] = {}
    for row, at in zip(program.rows, program.points[:-1], strict=False):
        ratio = at.sigma / at.alpha if at.alpha else np.inf
        first = levels.setdefault(float(row[col.TIME]), ratio)
        if not np.isclose(first, ratio, rtol=1e-5, atol=0.0):
            return True
    return False


def test_programs_are_finite_or_refused_by_name(heard):
    draw = random.Random(SEED)
    every = dict(specs())
    pairs = list(itertools.product(SAMPLERS, GRIDS))
    count = [0, 0]
    for sampler, grid in pairs:
        name, run = draw.choice(list(every)), draw.choice(RUNS)
        steps = min(draw.choice(STEPS), draw.choice(STEPS))  # few steps have the most to refuse
        if sampler in LONG:
            steps = min(steps, 8)
        try:
            count[built(every[name], sampler, grid, steps, run, heard)] += 1
        except Exception as error:
            case = f"{sampler} on {grid}, {steps} steps, {name}, {run}"
            pytest.fail(f"seed {SEED}: {case}: {type(error).__name__}: {error}")
    assert min(count) > 50  # of 364: neither all built nor all refused


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_programs_are_finite_or_refused_by_name(schedule, heard):
    draw = random.Random(schedule)
    every = {name: spec for name, spec in specs() if name.startswith(f"{schedule},")}
    names = itertools.cycle(draw.sample(list(every), len(every)))
    for sampler, grid in itertools.product(SAMPLERS, GRIDS):
        high = 8 if sampler in LONG else 60
        for steps in (draw.randint(1, 5), draw.randint(6, high)):
            name, run = next(names), draw.choice(RUNS)
            try:
                built(every[name], sampler, grid, steps, run, heard)
            except Exception as error:
                pytest.fail(f"{sampler} on {grid}, {steps} steps, {name}, {run}: {error!r}")


def test_whole_timesteps_that_karras_grids_repeat_on_cosine_betas_are_warned_of(heard):
    spec = DenoiserSpec(shape=(2,), schedule=SCHEDULES["cosine"], prediction="v_prediction")
    for steps in STEPS:
        heard.clear()
        program = build_program(spec, "dpmpp_2m", steps, grid="karras")
        assert heard or not moved_unheard(program)
        assert moved_unheard(program) == (steps > 5)
