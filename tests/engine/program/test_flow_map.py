"""``flow_map``: diffusers' scheduler, an exact map, other samplers, and what is refused."""

import dataclasses

import numpy as np
import pytest
from networks import NumpyDenoiser

import revstep
from proofs.float64_rows import run_rows
from proofs.theory.flow_maps import CASES, STEPS, ExactMap, error, law, mapped
from proofs.theory.gaussian_law import OneMode
from revstep import DenoiserSpec, Engine, SecondTime, TimeInput, build_program
from revstep.errors import ProgramError
from revstep.grids import KarrasGrid, ShiftedGrid, TimeGrid
from revstep.kernels import columns as col
from revstep.samplers import DDIM, Consistency, FlowMap
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

FLOW = DenoiserSpec(
    shape=(3,),
    schedule=FlowSchedule(),
    prediction="average_velocity",
    time=TimeInput(kind="thousand"),
    second_time=SecondTime(kind="thousand"),
    grid=ShiftedGrid(5.0),
)
JUMP = dataclasses.replace(FLOW, prediction="jump")


def velocity(x, t, r):
    """A network of two times: smooth, and of neither alone."""
    return np.tanh(x + 0.002 * t - 0.001 * r) - 0.3 * x[:, ::-1] * np.cos(0.003 * (t - r))


@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
def test_it_is_diffusers_0_42_1s_flow_map_euler_in_float64(shift, steps):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers", minversion="0.42.1")
    scheduler = diffusers.FlowMapEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    z = np.random.default_rng(steps).standard_normal((5, 3))
    want = torch.from_numpy(z)
    ends = [*scheduler.timesteps[1:], torch.zeros((), dtype=torch.float64)]
    for t, r in zip(scheduler.timesteps, ends, strict=True):
        m = torch.from_numpy(velocity(want.numpy(), float(t), float(r)))
        want = scheduler.step(m, t, want, r_timestep=r).prev_sample
    assert want.dtype == torch.float64
    program = build_program(dataclasses.replace(FLOW, grid=ShiftedGrid(shift)), "flow_map", steps)
    assert program.start == (0.0, 1.0)
    got, _ = run_rows(program, z, velocity, two_times=True)
    np.testing.assert_allclose(got, want.numpy(), rtol=0.0, atol=1e-14)


def test_anyflows_default_grid_ends_at_0():
    at = [p.t for p in build_program(FLOW, "flow_map", 4).points]
    np.testing.assert_allclose(at, [1.0, 0.9375, 5 / 6, 0.625, 0.0], rtol=1e-15)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_an_exact_map_arrives_at_the_same_state_in_any_number_of_steps(case):
    spec = mapped(*case)
    assert max(error(spec, steps) for steps in STEPS) < 1e-14


@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize("gamma", [0.3, 0.9, 1.0])
def test_new_noise_keeps_an_exact_maps_law(case, gamma):
    spec = mapped(*case)
    assert max(law(spec, steps, gamma) for steps in STEPS) < 1e-14


def exact_engine(prediction):
    """An engine of the exact map of N(1, 1/4), on every element."""
    spec = dataclasses.replace(mapped("flow", prediction, "end"), shape=(64,))
    mode = OneMode()

    def network(x, t, rest):
        out = np.empty(x.shape, np.float32)
        for row, (start, end) in enumerate(zip(t, rest["r"], strict=True)):
            both = np.stack([np.ones(x.shape[1]), x[row].astype(np.float64)])
            map_of_one = ExactMap(spec, mode)(np.eye(2)[1], float(start), float(end))
            out[row] = map_of_one @ both
        return out

    return Engine(NumpyDenoiser(spec, network))


@pytest.mark.parametrize("prediction", ["average_velocity", "jump"])
def test_one_step_of_the_engine_is_what_many_are(prediction):
    engine = exact_engine(prediction)
    one, three, forty = (
        engine.sample(8, sampler="flow_map", steps=n, seed=3).x for n in (1, 3, 40)
    )
    assert np.abs(three - one).max() < 2e-6
    assert np.abs(forty - one).max() < 1e-5
    noise = revstep.initial_noise(3, (64,), 8)
    np.testing.assert_allclose(one, 1.0 + 0.5 * noise, atol=2e-6)


def test_gamma_1_is_multistep_consistency():
    spec = DenoiserSpec(
        shape=(2,), schedule=VESchedule(), prediction="sample", second_time=SecondTime(kind="sigma")
    )
    two = build_program(spec, FlowMap(gamma=1.0), 6).rows
    one = build_program(spec, Consistency(sigma_min=0.0), 6).rows
    assert not two[:, col.TIME_2].any()
    different = np.delete(np.arange(col.COLUMNS), col.TIME_2)
    np.testing.assert_allclose(two[:, different], one[:, different], rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("final", ["clean", "first"])
def test_noise_takes_a_jump_back_to_the_next_level(gamma, final):
    """On whole indices too, where the jump goes to the nearest that the network can be told."""
    spec = DenoiserSpec(
        shape=(2,), schedule=VPSchedule(), prediction="jump", second_time=SecondTime(), final=final
    )
    program = build_program(spec, FlowMap(gamma=gamma), 7)
    for row, then in zip(program.rows[:-2], program.points[1:], strict=False):
        told = row[col.TIME_2]
        assert told == round(told)
        at_clean = told == 0.0 and row[col.C_M] == then.alpha
        alpha, sigma = (1.0, 0.0) if at_clean else map(float, spec.schedule.alpha_sigma(told))
        assert row[col.C_M] * alpha == pytest.approx(then.alpha, rel=1e-12)
        total = (row[col.C_M] * sigma) ** 2 + row[col.S] ** 2
        assert total == pytest.approx(then.sigma**2, rel=1e-9)
        assert row[col.S] == pytest.approx(gamma * then.sigma, rel=0.1)
    assert program.rows[-2, col.S] == 0.0


@pytest.mark.parametrize("sampler", ["euler", "ddim", "heun", "dpmpp_2m", "flow_heun"])
def test_other_samplers_ask_for_the_velocity_itself(sampler):
    """u at r = t: the same rows as on a network of that velocity, told r = t, or no length."""
    grid = TimeGrid(sigmas=(0.9, 0.6, 0.3, 0.1))
    flow = dataclasses.replace(FLOW, prediction="flow", second_time=None)
    for second in (SecondTime(kind="thousand"), SecondTime(kind="unit", of="length")):
        two = build_program(dataclasses.replace(FLOW, second_time=second), sampler, grid=grid)
        one = build_program(flow, sampler, grid=grid).rows
        rest = np.delete(np.arange(col.COLUMNS), col.TIME_2)
        np.testing.assert_allclose(two.rows[:, rest], one[:, rest], rtol=1e-14)
        told = two.rows[:, col.TIME_2]
        want = np.zeros(len(told)) if second.of == "length" else two.rows[:, col.TIME]
        np.testing.assert_array_equal(told, want)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", DDIM(eta=1.0)])
def test_other_samplers_of_a_jump_are_refused_with_the_reason(sampler):
    with pytest.raises(ProgramError, match="where that is the state's own: sample it with 'flow_"):
        build_program(JUMP, sampler, 4)


def test_a_network_of_one_time_is_refused_with_what_to_use():
    for spec in (dataclasses.replace(FLOW, prediction="flow", second_time=None),):
        with pytest.raises(ProgramError, match=r"needs a network of two times.*use another sampl"):
            build_program(spec, "flow_map", 4)


def test_a_sampler_of_ones_own_says_where_rows_go():
    def wrong(run):
        return run.jump(run.x, run.steps[0][0], 0.5)

    with pytest.raises(ProgramError, match=r"point that the row goes to, as then of run.steps"):
        build_program(FLOW, wrong, 1)

    def straight(run):
        x = run.x
        for now, then in run.steps:
            x = x + (then.t - now.t) * run.denoise(x, now, to=then).m
        return x

    got, want = build_program(FLOW, straight, 3).rows, build_program(FLOW, "flow_map", 3).rows
    np.testing.assert_array_equal(got[:-2], want[:-2])  # the last jump is x0, to be clipped


def test_the_last_jump_is_clipped_where_the_run_clips():
    spec = dataclasses.replace(FLOW, value_range=(-1.0, 1.0))
    rows = build_program(spec, "flow_map", 3, clip=True).rows
    assert rows[:3, col.C_0].tolist() == [0.0, 0.0, 1.0]
    assert rows[2, [col.LO, col.HI]].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("kind", ["index", "sigma", "log_sigma"])
def test_jumps_go_along_a_grid_of_noise_levels(kind):
    spec = DenoiserSpec(
        shape=(2,), schedule=VESchedule.edm(), prediction="jump", second_time=SecondTime(kind=kind)
    )
    told = build_program(spec, "flow_map", 5, grid=KarrasGrid()).rows[:5, col.TIME_2]
    assert np.all(np.diff(told[:-1]) < 0.0)
    assert told[-1] == told[-2] if kind != "sigma" else told[-1] == 0.0


@pytest.mark.parametrize("gamma", [-0.1, 1.5, float("nan")])
def test_gamma_is_a_share(gamma):
    with pytest.raises(ValueError, match="gamma"):
        FlowMap(gamma=gamma)
