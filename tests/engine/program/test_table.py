import math

import numpy as np
import pytest
from specs import spec_of

from revstep import DenoiserSpec, TimeInput, build_program
from revstep.engine.spec.grids import TrailingGrid
from revstep.errors import ProgramError
from revstep.kernels import columns as col
from revstep.samplers import DDIM, DDPM
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

VP = spec_of(shape=(2,), value_range=(-1.0, 1.0), clip=True)


def test_table_ends_with_the_identity_row():
    program = build_program(VP, "ddim", 5)
    assert program.rows.shape == (6, col.COLUMNS)
    last = program.rows[-1]
    assert last[col.ACTIVE] == 0
    assert last[col.C_X] == 1
    assert np.all(program.rows[:-1, col.ACTIVE] == 1)
    np.testing.assert_array_equal(program.rows[:-1, col.NOISE], np.arange(5))
    assert program.table.dtype == np.float32
    assert program.table.flags.writeable is False


def test_last_step_arrives_at_x0_without_noise():
    for sampler in (DDIM(eta=1.0), DDPM("small"), DDPM("large"), "dpmpp_2m"):
        last = build_program(VP, sampler, 10).rows[-2]
        assert last[col.S] == 0.0
        assert last[col.C_0] == pytest.approx(1.0, abs=1e-12)
        assert last[col.C_X] == pytest.approx(0.0, abs=1e-12)


def test_runs_start_at_the_schedules_own_noise_and_diffusers_at_one():
    alpha, sigma = VP.schedule.alpha_sigma(999)
    assert build_program(VP, "ddim", 10).start == (float(alpha), float(sigma))
    assert build_program(VP, "ddim", 10, compat="diffusers").start[1] == 1.0
    ve = DenoiserSpec(shape=(2,), schedule=VESchedule(sigma_max=80.0), prediction="epsilon")
    assert build_program(ve, "ddim", 10).start == (1.0, pytest.approx(80.0))
    flow = DenoiserSpec(
        shape=(2,), schedule=FlowSchedule(), prediction="flow", time=TimeInput(kind="thousand")
    )
    program = build_program(flow, "ddim", 4)
    assert program.start == (0.0, 1.0)
    np.testing.assert_allclose(program.rows[:, col.TIME], [1000, 750, 500, 250, 250])


@pytest.mark.parametrize(("strength", "length"), [(1.0, 20), (0.5, 10), (0.51, 11), (1e-6, 1)])
def test_strength_enters_the_grid_late(strength, length):
    program = build_program(VP, "ddim", 20, strength=strength, from_noise=False)
    whole = build_program(VP, "ddim", 20)
    assert program.length == length == max(1, math.ceil(20 * strength))
    np.testing.assert_array_equal(
        program.rows[:-1, : col.STORE], whole.rows[20 - length : -1, : col.SLOT]
    )
    first = program.points[0]
    assert program.start == (first.alpha, first.sigma)


def test_multistep_program_entered_late_starts_without_history():
    program = build_program(VP, "dpmpp_2m", 20, strength=0.5, from_noise=False)
    assert program.rows[0, col.H_1] == 0.0
    assert build_program(VP, "dpmpp_2m", 20).rows[10, col.H_1] != 0.0


@pytest.mark.parametrize("final", ["clean", "first"])
@pytest.mark.parametrize("grid", ["trailing", "leading"])
def test_stochastic_programs_end_without_noise(grid, final):
    spec = spec_of(shape=(2,), learned_variance=True, grid=grid, final=final)
    for sampler in (DDIM(eta=1.0), *map(DDPM, ("small", "large", "learned"))):
        rows = build_program(spec, sampler, 20).rows
        assert rows[-2, col.S] == 0.0
        assert np.all(rows[:-2, col.S] > 0.0)
    build_program(spec, "dpmpp_2m", 20)  # its last step may have no length


def test_trailing_times_are_diffusers_for_every_step_count():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")
    for steps in range(1, 1001):
        scheduler.set_timesteps(steps)
        want = scheduler.timesteps.numpy()[:steps]  # some counts give diffusers one too many
        got = TrailingGrid().natural_times(VP.schedule, VP.time, steps)
        np.testing.assert_array_equal(got, want, err_msg=str(steps))


def test_clip_range_is_in_the_rows_or_off():
    rows = build_program(VP, "ddim", 4).rows[:-1]
    assert set(rows[:, col.LO]) == {-1.0}
    assert set(rows[:, col.HI]) == {1.0}
    rows = build_program(VP, "ddim", 4, clip=False).rows[:-1]
    assert set(rows[:, col.LO]) == {-math.inf}
    assert set(rows[:, col.C_0]) == {0.0}


def test_zero_terminal_snr_needs_another_prediction_than_epsilon():
    schedule = VPSchedule(betas="scaled_linear", zero_terminal_snr=True)
    spec = DenoiserSpec(shape=(2,), schedule=schedule, prediction="epsilon")
    with pytest.raises(ProgramError, match=r"alpha = 0.*train with 'v_prediction'"):
        build_program(spec, "ddim", 10)
    v = DenoiserSpec(shape=(2,), schedule=schedule, prediction="v_prediction")
    for sampler in ("ddim", "ddpm", "dpmpp_2m"):
        assert np.all(np.isfinite(build_program(v, sampler, 10).rows[:-1, col.C_X : col.S]))


def test_coefficients_without_a_limit_are_refused_with_the_step():
    def wild(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = d.x0 + math.exp(min(700.0, then.lam if then.sigma else 700.0) * 1.0) * d.eps
        return x

    with pytest.raises(ProgramError, match=r"step 9 .*no finite c_"):
        build_program(VP, wild, 10)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 0}, ValueError, "1 to 1000 on this schedule"),
        ({"steps": 1001}, ValueError, "1 to 1000 on this schedule"),
        ({"steps": 2.5}, TypeError, "whole number"),
        ({"sampler": "euler9"}, ValueError, "unknown sampler 'euler9'; did you mean 'euler'"),
        ({"sampler": DDIM}, TypeError, "a sampler object such as DDIM"),
        ({"sampler": 3}, TypeError, "must be a name"),
        ({"grid": "log"}, ValueError, "allowed: trailing, leading, linspace"),
        ({"compat": "k"}, ValueError, "unknown compat 'k'"),
        ({"strength": 0.0}, ValueError, r"\(0, 1\]"),
        ({"strength": 1.5}, ValueError, r"\(0, 1\]"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        build_program(VP, **{"sampler": "ddim", "steps": 10, **arguments})


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match=r"eta=.* lies in \[0, 1\]"):
        DDIM(eta=eta)


def test_eta_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="eta must be a number; got str '1'"):
        DDIM(eta="1")


def test_learned_variance_carries_its_two_logarithms():
    spec = spec_of(shape=(2,), learned_variance=True)
    rows = build_program(spec, DDPM("learned"), 10).rows[:-2]
    assert np.all(rows[:, col.S] == 1.0)
    assert np.all(rows[:, col.LOG_BETA] > rows[:, col.LOG_BETA_TILDE])
    with pytest.raises(ProgramError, match="learned variance"):
        build_program(VP, DDPM("learned"), 10)


def test_inpainting_rows_carry_the_known_level_of_their_end():
    program = build_program(VP, "ddim", 10, inpaint=True)
    for row, end in zip(program.rows[:-1], program.points[1:], strict=True):
        assert row[col.KNOWN_ALPHA] == end.alpha
        assert row[col.KNOWN_SIGMA] == end.sigma
    assert program.rows[-2, col.KNOWN_SIGMA] == 0.0


def test_the_old_name_of_history_warns():
    with pytest.warns(DeprecationWarning, match="history"):
        assert build_program(VP, "dpmpp_2m", 5).slots == 1
