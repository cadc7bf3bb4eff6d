"""History: solvers that look back, traced and run, against themselves written as plain loops."""

import math
import re
import tracemalloc

import numpy as np
import pytest
from specs import spec_of

from proofs.float64_rows import run_rows
from revstep import DenoiserSpec, build_program
from revstep.engine.program import history
from revstep.engine.program.history import allocate
from revstep.engine.program.samplers import RePaint, UniPC
from revstep.engine.program.steps import steps_over
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Symbol, Vector
from revstep.errors import ProgramError
from revstep.grids import TimeGrid
from revstep.kernels import columns as col
from revstep.schedules import VESchedule, VPSchedule

VE = DenoiserSpec(
    shape=(4,), schedule=VESchedule(sigma_max=10.0), prediction="epsilon", final="first"
)
VP = spec_of(shape=(4,))


def network(x, time):
    return np.tanh(x * 0.3 + 0.01 * np.sin(time)) + 0.1 * x


def plain_network(spec, x, now):
    return network(x, now.time)


def start():
    return np.random.default_rng(0).standard_normal((3, 4))


def heun(run):
    x = run.x
    for now, then in run.steps:
        h = then.sigma - now.sigma
        base = x
        d = run.denoise(base, now)
        slope = d.eps
        e = run.denoise(base + h * slope, then)
        x = base + (h / 2) * (slope + e.eps)
    return x


def test_heun_stores_its_first_slope():
    program = build_program(VE, heun, 8)
    assert program.length == 16
    assert program.history == 1
    x = start()
    got, _ = run_rows(program, x, network)
    for now, then in _steps(8):
        h = then.sigma - now.sigma
        d = plain_network(VE, x, now)
        x = x + h / 2 * (d + plain_network(VE, x + h * d, then))
    np.testing.assert_allclose(got, x, rtol=1e-10)


def _steps(count, spec=VE):
    return steps_over(spec, count)


def summed(terms):
    """{"x": 1.0, "m": -0.5} as it is written: x - 0.5 m."""
    words = []
    for name, c in terms.items():
        if (c := round(c, 9)) != 0:
            factor = "" if abs(c) == 1 else f"{abs(c):g} "
            words += ["-" if c < 0 else "+", factor + name]
    return " ".join(words).removeprefix("+ ")


def test_the_example_of_the_docstring_is_what_heuns_method_gives():
    described = history.__doc__.partition("stores\n")[2].splitlines()
    example = [line.split("  ") for line in described if re.match(r" \d ", line)]
    got = [[part.strip() for part in line if part] for line in example]

    pairs = steps_over(VE, None, TimeGrid(sigmas=(4.0, 2.0, 1.0), stop=True))
    run = Run(VE, pairs, clip=False)
    run.finish(heun(run), pairs[-1][1])
    want = []
    for number, (row, kept) in enumerate(
        zip(run.rows, allocate([row.update for row in run.rows]), strict=True)
    ):
        asked = {f"{s.kind}[{s.row}]": c for s, c in sorted(row.update.terms.items(), key=by_age)}
        own = {kind: row.update.own(number, kind) for kind in "xm"}
        read = {f"h_{k + 1}": c for k, c in enumerate(kept.history)}
        done = {"x": own["x"] + kept.x, "m": own["m"], **read}
        stored = dict(zip(("x", "m", "x0", "h_1", "h_2", "h_3"), kept.stored, strict=True))
        into = f"{summed(stored)} as h_{kept.into + 1}" if kept.into >= 0 else "-"
        want.append([f"{number}", f"{row.at.sigma:g}", summed(asked), summed(done), into])
    assert got == want


def by_age(term):
    symbol, _ = term
    return symbol.row, "xm".index(symbol.kind)


def adams_bashforth(weights):
    def solver(run):
        x, past = run.x, []
        for now, then in run.steps:
            d = run.denoise(x, now)
            past = [d.eps, *past][: len(weights)]
            used = weights if len(past) == len(weights) else [1.0]
            x = x + (then.sigma - now.sigma) * sum(w * e for w, e in zip(used, past, strict=False))
        return x

    return solver


AB4 = [55 / 24, -59 / 24, 37 / 24, -9 / 24]


@pytest.mark.parametrize("weights", [AB4[:1], [1.5, -0.5], [23 / 12, -16 / 12, 5 / 12], AB4])
def test_linear_multistep_uses_one_slot_a_past_value(weights):
    program = build_program(VE, adams_bashforth(weights), 12)
    assert program.history == len(weights) - 1
    x, past = start(), []
    got, _ = run_rows(program, x, network)
    for now, then in _steps(12):
        past = [plain_network(VE, x, now), *past][: len(weights)]
        used = weights if len(past) == len(weights) else [1.0]
        x = x + (then.sigma - now.sigma) * sum(w * e for w, e in zip(used, past, strict=False))
    np.testing.assert_allclose(got, x, rtol=1e-10)


def unipc2(run):
    """UniPC-2 as predictor and corrector: the corrected state of the last step is used again."""
    x, last = run.x, None
    for number, (now, then) in enumerate(run.steps):
        d = run.denoise(x, now)
        if last is not None:
            before, corrected, x0_before = last
            h = now.lam - before.lam
            x = (now.sigma / before.sigma) * corrected - now.alpha * math.expm1(-h) * (
                0.5 * x0_before + 0.5 * d.x0
            )
        base = x
        h = then.lam - now.lam
        last_step = number == len(run.steps) - 1
        slope = d.x0
        if last is not None and not last_step:
            r = (now.lam - last[0].lam) / h
            slope = d.x0 + (d.x0 - last[2]) / (2 * r)
        x = (then.sigma / now.sigma) * base - then.alpha * math.expm1(-h) * slope
        last = (now, base, d.x0)
    return x


def test_predictor_corrector_finds_its_storage():
    program = build_program(VP, unipc2, 10)
    x = start()
    got, _ = run_rows(program, x, network)
    last = None
    for number, (now, then) in enumerate(_steps(10, VP)):
        x0 = (x - now.sigma * network(x, now.time)) / now.alpha
        if last is not None:
            before, corrected, x0_before = last
            h = now.lam - before.lam
            x = (now.sigma / before.sigma) * corrected - now.alpha * np.expm1(-h) * 0.5 * (
                x0_before + x0
            )
        h = then.lam - now.lam
        slope = x0
        if last is not None and number < 9:
            slope = x0 + (x0 - last[2]) / (2 * (now.lam - last[0].lam) / h)
        last = (now, x, x0)
        x = (then.sigma / now.sigma) * x - then.alpha * np.expm1(-h) * slope
    np.testing.assert_allclose(got, x, rtol=1e-8)
    assert program.history <= 3


@pytest.mark.parametrize(("order", "count"), [(1, 1), (2, 2), (3, 3)])
def test_a_corrector_keeps_one_past_estimate_an_order(order, count):
    for prediction in ("epsilon", "sample", "v_prediction"):
        spec = DenoiserSpec(shape=(4,), schedule=VPSchedule(), prediction=prediction)
        assert build_program(spec, UniPC(order=order), 30).history == count


def test_a_state_that_is_never_named_anew_stays_exact_over_a_thousand_steps():
    program = build_program(VP, unipc2, 1000)
    assert program.history == 2
    stored = program.rows[:, [col.K_X, col.K_M]][program.rows[:, col.STORE] >= 0]
    sigma = np.array([p.sigma for p in program.points[: len(stored)]])
    np.testing.assert_allclose(stored[:-2, 1] / stored[:-2, 0], -sigma[:-2], rtol=1e-9)  # x0


def random_machine(seed):
    """Updates of a program that three slots do hold, whatever its values are."""
    rng, slots, updates = np.random.default_rng(seed), [None] * 3, []
    for row in range(int(rng.integers(2, 9))):
        x, m, x0 = (Vector({Symbol(row, kind): 1.0}) for kind in "xm0")
        value = rng.normal() * m + rng.normal() * x0
        used = [q for q in slots if q is not None and rng.random() < 0.7]
        update = rng.normal() * x + rng.normal() * m + 0.0 * x0
        for q in used:
            update = update + rng.normal() * q
        updates.append(update)
        if rng.random() < 0.8:
            slots[int(rng.integers(3))] = value
    return updates


def test_what_three_slots_hold_is_found():
    for seed in range(150):
        updates = random_machine(seed)
        rng = np.random.default_rng(seed)
        values, x, held = {}, rng.normal(), [0.0] * 3
        for row, (update, kept) in enumerate(zip(updates, allocate(updates), strict=True)):
            m, x0 = rng.normal(), rng.normal()
            values |= {Symbol(row, "x"): x, Symbol(row, "m"): m, Symbol(row, "0"): x0}
            want = sum(c * values[symbol] for symbol, c in update.terms.items())
            got = (update.own(row, "x") + kept.x) * x + update.own(row, "m") * m
            got += np.dot(kept.history, held)
            scale = max(abs(c * values[symbol]) for symbol, c in update.terms.items())
            assert abs(got - want) <= 1e-10 * scale
            if kept.into >= 0:
                held[kept.into] = np.dot(kept.stored, [x, m, x0, *held])
            x = want


def test_value_kept_over_many_calls_stays_in_its_slot():
    def anchored(run):
        x, first = run.x, None
        for now, then in run.steps:
            d = run.denoise(x, now)
            first = d.x0 if first is None else first
            x = then.alpha * (0.9 * d.x0 + 0.1 * first) + then.sigma * d.eps
        return x

    program = build_program(VP, anchored, 30)
    assert program.history == 1
    assert np.count_nonzero(program.rows[:, col.STORE] >= 0) == 1


def test_long_runs_take_memory_in_proportion_to_their_length():
    peaks = []
    for steps in (20, 160):
        tracemalloc.start()
        length = build_program(VP, RePaint(jump_length=4), steps).length
        peaks.append(tracemalloc.get_traced_memory()[1] / length)
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_reaching_too_far_back_is_refused_with_the_call():
    with pytest.raises(
        ProgramError, match=r"after network call \d+ \(test_history\.py, line \d+\)"
    ):
        build_program(VE, adams_bashforth([1.0, 0.1, 0.2, 0.3, 0.4]), 12)


def test_two_values_of_one_call_in_different_mixtures_are_refused():
    def greedy(run):
        x, past = run.x, []
        for now, _ in run.steps:
            d = run.denoise(x, now)
            past.append((d.m, x))
            noise = run.noise()
            x = 0.5 * d.m + noise
            if len(past) == 3:
                x = x + past[0][0] + 2 * past[1][0]
            if len(past) == 4:
                x = x + past[0][1] + 3 * past[1][0] + past[1][1]
        return x

    with pytest.raises(ProgramError, match="can't be a program"):
        build_program(VE, greedy, 6)


def random_multistep(seed):
    """A random solver over up to three stored values, as code for vectors and arrays alike."""
    rng = np.random.default_rng(seed)
    depth, count = int(rng.integers(0, 4)), int(rng.integers(2, 9))
    weights, used = rng.normal(size=(count, 6)) / 2, rng.integers(0, 2, size=(count, 4))
    mix = rng.normal(size=3)

    def solver(x, steps, call, noise):
        past = []
        for i, (now, _) in enumerate(steps):
            m, x0 = call(x, now)
            value = mix[0] * m + mix[1] * x0 + mix[2] * x
            new = weights[i, 0] * x + weights[i, 1] * m + weights[i, 2] * x0
            for k, old in enumerate(past[:depth]):
                if used[i, k]:
                    new = new + weights[i, 3 + k] * old
            if used[i, 3]:
                new = new + 0.3 * noise(i)
            past.insert(0, value)
            x = new
        return x

    return solver, count


@pytest.mark.parametrize("clip", [False, True])
def test_random_solvers_give_what_they_say(clip):
    spec = spec_of(shape=(4,), value_range=(-1.0, 1.0))
    for seed in range(60):
        solver, count = random_multistep(seed)

        def traced(run, solver=solver):
            def call(x, now):
                d = run.denoise(x, now)
                return d.m, d.x0

            return solver(run.x, run.steps, call, lambda _: run.noise())

        def call(x, now):
            m = network(x, now.time)
            x0 = (x - now.sigma * m) / now.alpha
            return m, np.clip(x0, -1, 1) if clip else x0

        noise = np.random.default_rng(seed).normal(size=(count, 3, 4))
        program = build_program(spec, traced, count, clip=clip)
        got, _ = run_rows(program, start(), network, lambda i, noise=noise: noise[i])
        want = solver(start(), _steps(count, spec), call, lambda i, noise=noise: noise[i])
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("spec", [VE, VP], ids=["ve", "vp"])
def test_a_past_value_scaled_by_no_finite_number_is_refused_in_words(spec, factor):
    def looks_back(run):
        x, past = run.x, None
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + then.sigma * d.eps
            x = x if past is None else x + factor * past
            past = d.m
        return x

    with pytest.raises(ProgramError, match="can't be a program: after network call 0 "):
        build_program(spec, looks_back, 4)
