"""The samplers as programs: their slots, their options, and whole runs through the kernels."""

import dataclasses
import logging
import re

import numpy as np
import pytest
from networks import NumpyDenoiser
from specs import spec_of

from proofs.float64_rows import run_rows
from proofs.oracles.case import noise_of_call
from proofs.oracles.network import TestNetwork
from revstep import DenoiserSpec, Engine, SecondTime, TimeInput, build_program
from revstep.engine.program.samplers import SAMPLERS, UniPC, make_sampler
from revstep.errors import ProgramError
from revstep.grids import TimeGrid
from revstep.kernels import columns as col
from revstep.kernels.noise import normals
from revstep.samplers import DDIM, DDPM
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

SHAPE = (3, 4, 4)
VP = spec_of(shape=SHAPE)
FLOW = DenoiserSpec(
    shape=SHAPE,
    schedule=FlowSchedule(),
    prediction="flow",
    time=TimeInput(kind="thousand", fractions=True),
)
VE = DenoiserSpec(shape=SHAPE, schedule=VESchedule(steps=25, sigma_max=20.0), prediction="score")
EDM = DenoiserSpec.edm(SHAPE)
TWO_TIMES = dataclasses.replace(
    FLOW, prediction="average_velocity", second_time=SecondTime(kind="thousand")
)
SPECS = {
    **{"flow_euler": FLOW, "flow_heun": FLOW, "flow_euler_ancestral": FLOW, "flow_map": TWO_TIMES},
    **{"consistency": EDM, "edm": EDM, "reverse_sde": VE},
}
SMALL = {"repaint": {"jump_length": 2, "repeats": 2}, "langevin": {"repeats": 2}}
STOCHASTIC = {
    **{"edm": {"churn": 10.0}, "ddim": {"eta": 0.7}, "unipc": {"order": 3}},
    "flow_map": {"gamma": 0.5},
}

SLOTS = {
    **dict.fromkeys(SAMPLERS, 0),
    **dict.fromkeys(("heun", "edm", "dpm2", "dpm2_ancestral", "flow_heun"), 1),
    **dict.fromkeys(("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2s", "dpmpp_2s_sde", "cogvideox_dpm"), 1),
    **dict.fromkeys(("dpmpp_3m", "dpmpp_3m_sde", "lms", "unipc", "deis", "sa_solver"), 2),
    **dict.fromkeys(("ipndm", "pndm"), 3),
}


def spec_of(name):
    return SPECS.get(name, VP)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_program_uses_no_more_slots_than_its_method_has_past_values(name):
    for steps in (3, 12, 20):
        program = build_program(spec_of(name), make_sampler(name, **SMALL.get(name, {})), steps)
        assert program.history <= SLOTS[name]
    assert program.history == SLOTS[name]


@pytest.mark.parametrize(
    ("order", "corrector", "slots"), [(1, True, 1), (2, True, 2), (3, True, 3)]
)
def test_unipc_keeps_its_history(order, corrector, slots):
    """The corrected state's predecessor and the past x0: what the corrector goes back to."""
    program = build_program(VP, UniPC(order=order), 20)
    assert program.history == slots
    alone = build_program(VP, UniPC(order=order, corrector=False), 20)
    assert alone.history == order - 1
    first_order = build_program(VP, "ddim", 20).rows
    assert np.any(np.abs(program.rows[:, col.H_1]) > 0.0)
    assert not np.allclose(program.rows[:-1, col.C_X], first_order[:-1, col.C_X])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_whole_run_is_its_rows_in_float64_to_float32s_rounding(name):
    spec = dataclasses.replace(spec_of(name), batch=(1, 8))
    network, count, size = TestNetwork(spec), 2, 48
    sampler = make_sampler(name, **SMALL.get(name, {}), **STOCHASTIC.get(name, {}))

    def draw(index, stream):
        rows = [normals(key, index, stream, size) for key in (41, 42)]
        return np.stack(rows).astype(np.float64).reshape(count, *SHAPE)

    def function(x, t, rest):
        second = (values[0] for values in rest.values())
        return network.output(x.astype(np.float64), t[0], *second).astype(np.float32)

    denoiser = NumpyDenoiser(spec, function)
    got = Engine(denoiser).sample(count, sampler=sampler, steps=12, seed=41).x
    program = build_program(spec, sampler, 12)
    start = program.start[1] * draw(0, 1)
    two = spec.second_time is not None
    want, _ = run_rows(program, start, network.output, lambda row: draw(row, 0), two_times=two)
    scale = max(1.0, float(np.max(np.abs(want))))
    assert float(np.max(np.abs(got - want))) <= 2e-5 * scale
    assert float(np.std(want)) > 0.1


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_ddim_with_eta_one_is_ddpm_of_the_small_variance(prediction):
    spec = dataclasses.replace(VP, prediction=prediction)
    ddim = build_program(spec, DDIM(eta=1.0), 40).rows
    ddpm = build_program(spec, DDPM("small"), 40).rows
    x = np.random.default_rng(0).standard_normal((2, *SHAPE))
    network = TestNetwork(spec).output
    one, _ = run_rows(_program(ddim), x, network, lambda i: x * 0.1 * i)
    two, _ = run_rows(_program(ddpm), x, network, lambda i: x * 0.1 * i)
    np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)


def _program(rows):
    return dataclasses.replace(build_program(VP, "ddim", 2), rows=rows)


def test_grids_own_next_time_differs_from_diffusers_stepping_where_steps_do_not_divide():
    own = build_program(VP, "ddim", 7)
    theirs = build_program(VP, "ddim", 7, compat="diffusers")
    np.testing.assert_array_equal(own.rows[:, 0], theirs.rows[:, 0])
    assert not np.allclose(own.rows[:-1], theirs.rows[:-1])
    same = build_program(VP, "ddim", 20).rows
    np.testing.assert_array_equal(same, build_program(VP, "ddim", 20, compat="diffusers").rows)


def test_ddpm_row_of_a_mean_network_is_exactly_m_plus_noise():
    spec = dataclasses.replace(VP, prediction="mean")
    rows = build_program(spec, "ddpm", 1000).rows[:-1]
    np.testing.assert_array_equal(rows[:, col.C_X], 0.0)
    np.testing.assert_array_equal(rows[:, col.C_0], 0.0)
    np.testing.assert_allclose(rows[:, col.C_M], 1.0, rtol=1e-9)


def test_churn_before_the_first_call_is_in_the_start():
    program = build_program(EDM, make_sampler("edm", churn=10.0, scale=1.5), 20)
    level = 80.0
    raised = level * (1.0 + min(10.0 / 20, np.sqrt(2.0) - 1.0))
    assert program.points[0].sigma == pytest.approx(raised)
    total = np.sqrt(level**2 + 1.5**2 * (raised**2 - level**2))
    assert program.start == (1.0, pytest.approx(total))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddim", {"eta": 1.5}, r"eta=1.5.*\[0, 1\]"),
        ("ddim", {"epsilon": "drop"}, "allowed: rederive, keep"),
        ("ddpm", {"variance": "medium"}, "allowed: small, large, learned"),
        ("euler_ancestral", {"eta": -0.1}, r"eta=-0.1 is out of range; it lies in \[0, 1\]"),
        ("edm", {"churn": -1.0}, r"churn=-1.0.*\[0, infinity\)"),
        ("edm", {"low": 2.0, "high": 1.0}, r"high=1.0.*\[2, infinity\)"),
        (
            "edm",
            {"order": 3},
            "order=3 is out of range.* 1 to 2: Euler's or Heun's",
        ),
        ("dpmpp_2m", {"second": "third"}, "allowed: midpoint, heun"),
        ("dpmpp_2m", {"lower_order_final": 1}, "must be True or False; got int 1"),
        ("dpmpp_3m_sde", {"eta": float("nan")}, "eta=nan"),
        ("unipc", {"order": 4}, "order=4 is out of range; allowed: whole numbers, 1 to 3"),
        ("unipc", {"b": "bh3"}, "allowed: bh1, bh2"),
        ("lms", {"order": 5}, "order=5 is refused: .* three stored values"),
        ("ipndm", {"order": 5}, "order=5 is refused: .* three stored values"),
        ("pndm", {"skip_prk_steps": False}, "skip_prk_steps=False is refused: .* three stored"),
        ("ipndm", {"order": True}, "order must be a whole number; got bool True"),
        ("predictor_corrector", {"norms": "sample"}, "a sum over the sample"),
        ("predictor_corrector", {"corrections": -1}, "whole numbers, 0 or more"),
        ("langevin", {"repeats": 0}, "whole numbers, 1 or more"),
        ("lcm", {"original_steps": 0}, "whole numbers, 1 or more"),
        ("repaint", {"jump_length": 0}, "whole numbers, 1 or more"),
        ("euler", {"eta": 1.0}, "'euler' has no option eta; allowed: none"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_sampler(name, **options)


def test_churn_that_would_leave_the_schedule_is_warned_of(caplog):
    caplog.set_level(logging.WARNING)
    build_program(VP, make_sampler("edm", churn=5.0), 20, grid="karras")
    high = float(re.search(r"EDM\(high=([\d.]+)\)", caplog.text)[1])
    assert "edm adds no noise at" in caplog.text
    caplog.clear()
    build_program(VP, make_sampler("edm", churn=5.0, high=high), 20, grid="karras")
    build_program(VP, make_sampler("edm"), 20, grid="karras")
    assert not caplog.records


def test_lcm_refuses_more_original_steps_than_the_schedule_has():
    few = DenoiserSpec(shape=(2,), schedule=VPSchedule(steps=10), prediction="epsilon")
    with pytest.raises(ValueError, match="original_steps=50 is more than the 10 training steps"):
        build_program(few, "lcm", 4)
    assert build_program(few, make_sampler("lcm", original_steps=10), 4).length == 4


@pytest.mark.parametrize(
    ("name", "options"),
    [("ddim", {"eta": 0.5}), ("unipc", {"order": 3}), ("euler_ancestral", {"eta": 0.5})],
)
def test_options_by_name_may_be_numbers_of_numpy(name, options):
    given = {k: np.int64(v) if isinstance(v, int) else np.float32(v) for k, v in options.items()}
    program = build_program(VP, make_sampler(name, **given), 5)
    assert program.key == build_program(VP, make_sampler(name, **options), 5).key


def test_a_float32_would_make_the_table_one_and_is_refused():
    with pytest.raises(ValueError, match=r"eta must be a number of Python's own; got float32 0\.5"):
        DDIM(eta=np.float32(0.5))
    with pytest.raises(ValueError, match="order must be a whole number of Python's own; got int64"):
        UniPC(order=np.int64(2))


def test_more_calls_than_the_model_was_distilled_from_are_refused():
    with pytest.raises(ValueError, match=r"steps=51 .* 1 to 50, as this model was distilled"):
        build_program(VP, "lcm", 51)


@pytest.mark.parametrize("name", ["flow_euler", "flow_heun", "flow_euler_ancestral"])
def test_methods_on_a_velocity_need_a_flow(name):
    with pytest.raises(ProgramError, match=f"schedule is 'vp': use '{name[5:]}'"):
        build_program(VP, name, 10)


NO_LIMIT = {"heun", "edm", "dpm2", "dpm2_ancestral", "pndm", "langevin"}
IN_LAMBDA = {name for name in SAMPLERS if name.startswith("dpmpp_")}
IN_LAMBDA |= {"unipc", "cogvideox_dpm", "deis", "sa_solver"}


def flow_run(name, first):
    """(rows, final state) from ``first`` on; methods in lambda forget like 1 / log(1 - first)."""
    grid = TimeGrid(sigmas=(first, 0.9, 0.75, 0.5, 0.3, 0.1, 0.0))
    spec = TWO_TIMES if name == "flow_map" else FLOW
    program = build_program(spec, make_sampler(name, **SMALL.get(name, {})), grid=grid)
    network, two = TestNetwork(spec).output, spec.second_time is not None
    end, _ = run_rows(program, noise_of_call(-1), network, noise_of_call, two_times=two)
    return program.rows, end


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - NO_LIMIT))
def test_a_start_at_alpha_0_is_the_limit_of_starts_close_to_it(name):
    rows, at = flow_run(name, 1.0)
    _, near = flow_run(name, 1.0 - 1e-7)
    assert np.all(np.isfinite(at))
    if name not in IN_LAMBDA:
        assert float(np.max(np.abs(at - near))) < 1e-5
    else:  # first order from there, and no value of there in a later difference
        noisy = name.endswith("sde") or name == "cogvideox_dpm"
        first = flow_run("ddpm" if noisy else "ddim", 1.0)[0]
        np.testing.assert_allclose(rows[0, col.C_X : col.S + 1], first[0, col.C_X : col.S + 1])


@pytest.mark.parametrize("name", sorted(NO_LIMIT))
def test_methods_on_x_over_alpha_are_refused_where_alpha_is_0(name):
    options = {"churn": 5.0} if name == "edm" else {}
    with pytest.raises(ProgramError, match=r"x / alpha, which has no limit where alpha = 0.*later"):
        build_program(FLOW, make_sampler(name, **options), 10)


def slope_multistep(weights):
    """Adams and Bashforth's method on the noise, of as many values as weights."""

    def solver(run):
        x, past = run.x, []
        for now, then in run.steps:
            past = [run.denoise(x, now).eps, *past][: len(weights)]
            used = weights if len(past) == len(weights) else [1.0]
            x = x + (then.sigma - now.sigma) * sum(w * e for w, e in zip(used, past, strict=False))
        return x

    return solver


def test_five_past_slopes_are_more_than_a_row_holds():
    fifth = [1901 / 720, -2774 / 720, 2616 / 720, -1274 / 720, 251 / 720]
    with pytest.raises(
        ProgramError,
        match=r"after network call 3 \(test_sampler_programs.py, line \d+\) later steps need more "
        r"than the state, 3 stored values",
    ):
        build_program(VE, slope_multistep(fifth), 12)


def runge_kutta_start(run):
    """PNDM as its paper starts it: three steps of Runge and Kutta, then AB4 on their slopes."""
    x, past = run.x, []
    for number, (now, then) in enumerate(run.steps):
        h, base = then.sigma - now.sigma, x
        a = run.denoise(base, now).eps
        past = [a, *past][:4]
        if number < 3:
            b = run.denoise(base + h / 2 * a, now).eps
            c = run.denoise(base + h / 2 * b, now).eps
            d = run.denoise(base + h * c, then).eps
            x = base + h / 6 * (a + 2 * b + 2 * c + d)
        else:
            weights = (55 / 24, -59 / 24, 37 / 24, -9 / 24)
            x = base + h * sum(w * e for w, e in zip(weights, past, strict=True))
    return x


def test_pndms_start_by_runge_and_kutta_is_refused_with_its_line():
    with pytest.raises(
        ProgramError, match=r"can't be a program: after network call \d+ \(test_sampler_programs"
    ):
        build_program(VE, runge_kutta_start, 12)


@pytest.mark.parametrize("name", [n for n in SAMPLERS if not n.startswith("flow_")])
def test_the_last_step_adds_no_noise_even_where_it_stops_short_of_the_clean_end(name):
    spec = dataclasses.replace(spec_of(name), final="first")
    options = {**SMALL.get(name, {}), **STOCHASTIC.get(name, {})}
    program = build_program(spec, make_sampler(name, **options), 12)
    assert program.points[-1].sigma > 0.0
    assert program.rows[program.length - 1, col.S] == 0.0


def test_unipc_keeps_its_order_where_the_last_call_is_the_end():
    """A step of no length, over the leading grid to index 0: of first order, whatever the order."""
    spec = DenoiserSpec(
        shape=(2,), schedule=VPSchedule(), prediction="epsilon", grid="leading", final="first"
    )
    kept = build_program(spec, UniPC(order=2, lower_order_final=False), 10)
    lowered = build_program(spec, UniPC(order=2), 10)
    np.testing.assert_array_equal(kept.table, lowered.table)
