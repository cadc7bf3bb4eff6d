"""What a user's sampler may not do is refused when it is traced, by file, line and reason."""

import inspect
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from specs import spec_of

import revstep
from revstep import DenoiserSpec, build_program
from revstep.errors import ProgramError
from revstep.schedules import VPSchedule

SPEC = spec_of(shape=(4,))


def ddim(run):
    x = run.x
    for now, then in run.steps:
        d = run.denoise(x, now)
        x = then.alpha * d.x0 + then.sigma * d.eps
    return x


def each_step(update):
    """A sampler that makes ``update(run, x, d, now, then)`` of every step."""

    def walk(run):
        x = run.x
        for now, then in run.steps:
            x = update(run, x, run.denoise(x, now), now, then)
        return x

    return walk


def product(run, x, d, now, then):
    return x + d.x0 * d.eps  # here


def power(run, x, d, now, then):
    return x + d.x0**2  # here


def absolute(run, x, d, now, then):
    return x / abs(d.eps)  # here


def numpy_norm(run, x, d, now, then):
    return x * np.linalg.norm(d.eps)  # here


def torch_norm(run, x, d, now, then):
    return x * d.eps.norm()  # here


def root(run, x, d, now, then):
    return x * math.sqrt(d.eps)  # here


def branch(run, x, d, now, then):
    if d.x0 > 0:  # here
        return d.x0
    return x


def equality(run, x, d, now, then):
    return x if d.x0 == 0 else d.x0  # here


def threshold(run, x, d, now, then):
    return np.clip(d.x0, -1, 1)  # here


def part(run, x, d, now, then):
    return d.x0[:1]  # here


def matrix(run, x, d, now, then):
    return np.ones((2, 2)) * d.x0  # here


def constant(run, x, d, now, then):
    return 1 - d.x0  # here


def inverse(run, x, d, now, then):
    return 1 / d.x0  # here


def vector_by_zero(run, x, d, now, then):
    return d.x0 / then.sigma  # here


def number_by_zero(run, x, d, now, then):
    return x * (1 / then.sigma)  # here


def two_noises(run, x, d, now, then):
    x = then.alpha * d.x0 + run.noise()
    return x + then.sigma * run.noise()  # here


def array_added(run, x, d, now, then):
    return np.zeros(3) + d.x0  # here


def array_added_right(run, x, d, now, then):
    return d.x0 + np.zeros(3)  # here


def power_of_two(run, x, d, now, then):
    return 2**d.x0  # here


def floor_division(run, x, d, now, then):
    return d.x0 // 2  # here


def remainder(run, x, d, now, then):
    return d.x0 % 2  # here


def length(run, x, d, now, then):
    return x / len(d.x0)  # here


def parts(run, x, d, now, then):
    return sum(v for v in d.x0)  # here


def rounded(run, x, d, now, then):
    return round(d.x0, 2)  # here


def whole(run, x, d, now, then):
    return x * int(d.x0)  # here


def inverted(run, x, d, now, then):
    return ~d.x0  # here


def torch_clamp(run, x, d, now, then):
    return pytest.importorskip("torch").clamp(d.x0, -1, 1)  # here


def decimal(run, x, d, now, then):
    return Decimal("0.5") * d.x0  # here


def estimate_scaled(run, x, d, now, then):
    return d * 2  # here


def estimate_added(run, x, d, now, then):
    return x + d  # here


def weight_of_nothing(run, x, d, now, then):
    return run.denoise(d.x0, then, weight=math.nan).x0  # here


def weight_in_words(run, x, d, now, then):
    return run.denoise(d.x0, then, weight="a").x0  # here


def half_an_estimate(run, x, d, now, then):
    return run.denoise(d.x0, then, estimate=(1.0,)).x0  # here


def estimate_as_state(run, x, d, now, then):
    return run.denoise(d, then).x0  # here


def number_as_point(run, x, d, now, then):
    return run.denoise(x, then.t).x0  # here


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (product, "multiplying two vectors is not affine"),
        (power, "raising a vector to a power is not affine"),
        (absolute, "the absolute value or norm of a vector is not affine"),
        (numpy_norm, "a vector is not affine|two vectors is not affine"),
        (torch_norm, r"reading \.norm of a vector is not affine"),
        (root, "reading a vector's value is not affine"),
        (branch, "comparing or clipping a vector is not affine"),
        (equality, "comparing or clipping a vector is not affine"),
        (threshold, r"reading \.clip of a vector is not affine"),
        (part, "taking a part of a vector is not affine"),
        (matrix, r"an array of shape \(2, 2\) is not affine"),
        (constant, "adding a number to a vector is not affine"),
        (inverse, "dividing by a vector is not affine"),
        (vector_by_zero, "divided a vector by 0 .* take the limit instead"),
        (number_by_zero, "division by zero.*take the limit"),
        (two_noises, "network call 0 draws noise twice"),
        (estimate_as_state, r"takes a state, a Vector; got Estimate .*its \.x0"),
        (number_as_point, "takes the point of the call"),
        (array_added, r"a vector and an array of shape \(3,\) is not affine"),
        (array_added_right, r"adding an array of shape \(3,\) to a vector is not affine"),
        (power_of_two, "raising a number to a vector is not affine"),
        (floor_division, "dividing it with // or %, is not affine"),
        (remainder, "dividing it with // or %, is not affine"),
        (length, "taking a part of a vector is not affine"),
        (parts, "taking a part of a vector is not affine"),
        (rounded, "rounding a vector.* is not affine"),
        (whole, "reading a vector's value is not affine"),
        (inverted, "rounding a vector.* is not affine"),
        (torch_clamp, r"torch\.clamp of a vector is not affine"),
        (decimal, r"a Decimal \(float\(\) makes it a number\) is not affine"),
        (estimate_scaled, r"take one of its vectors: \.x0, \.eps or \.m"),
        (estimate_added, r"take one of its vectors: \.x0, \.eps or \.m"),
        (weight_of_nothing, "takes a finite number as weight; got nan"),
        (weight_in_words, "takes a finite number as weight; got 'a'"),
        (half_an_estimate, r"two finite numbers \(p_x, p_m\) as estimate; got \(1\.0,\)"),
    ],
)
def test_what_is_refused_is_named_by_line(update, message):
    assert_refused(each_step(update), message, update)


def assert_refused(sampler, message, source, spec=SPEC, steps=4):
    """The message, and the line of ``source`` that is marked."""
    lines, first = inspect.getsourcelines(source)
    marked = [i for i, line in enumerate(lines, first) if "# here" in line]
    with pytest.raises(ProgramError, match=message) as caught:
        build_program(spec, sampler, steps)
    assert f"test_own_sampler_refused.py, line {marked[0]}" in str(caught.value)


def test_a_number_that_is_none_is_named_as_it_is():
    def scaled(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)  # here
            x = then.alpha * d.x0 + then.sigma * math.nan * d.eps
        return x

    assert_refused(scaled, "has no finite .*, but nan: .*numbers that .* scaled by", scaled)


def test_numpys_names_of_the_same_arithmetic_are_affine():
    def plain(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + 0.5 * then.sigma * d.eps - d.x0 / 4
        return x

    def numpys(run):
        x = +run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            part = np.multiply(np.float64(then.sigma) * Fraction(1, 2), d.eps)
            whole = np.add(np.array(then.alpha) * d.x0, part)
            x = np.subtract(whole, np.divide(np.positive(d.x0), np.int64(4)))
        return np.negative(np.negative(x))

    assert build_program(SPEC, plain, 4).key == build_program(SPEC, numpys, 4).key


def test_five_past_values_are_refused_where_the_network_is_called():
    def five(run):
        x, past = run.x, []
        for now, then in run.steps:
            d = run.denoise(x, now)  # here
            past = [d.eps, *past][:5]
            x = then.alpha / now.alpha * x + (then.sigma - now.sigma) * sum(past)
        return x

    assert_refused(five, "3 stored values.*use fewer past values", five, steps=12)


def test_a_division_by_alpha_is_refused_at_zero_terminal_snr():
    spec = DenoiserSpec(
        shape=(2,), schedule=VPSchedule(zero_terminal_snr=True), prediction="v_prediction"
    )

    def scaled(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            y = x / now.alpha  # here
            x = then.alpha * (y + (then.sigma / then.alpha - now.sigma / now.alpha) * d.eps)
        return x

    def numbers(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + (now.sigma / now.alpha) * d.eps  # here
        return x

    assert_refused(scaled, "divided a vector by 0", scaled, spec)
    assert_refused(numbers, r"alpha 0, sigma 1\): .*division by zero", numbers, spec)
    assert build_program(spec, ddim, 4).length == 4


def test_a_coefficient_that_is_no_number_is_named_with_its_call():
    def walk(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)  # here
            x = math.exp(-then.lam) * x + (now.lam - then.lam) * d.x0
        return x

    assert_refused(walk, "step 3 .* has no finite", walk)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda run: ddim(run) and None, "branching on a vector's value"),
        (lambda run: None if ddim(run) is not None else 0, "got NoneType"),
        (lambda run: [ddim(run)], "returns its final state; got list"),
        (lambda run: (yield ddim(run)), "returns its final state; got generator"),
        (lambda run: 0.5, "returns its final state; got float"),
        (lambda run: run.denoise(run.x, run.steps[0][0]), "returns its final state; got Estimate"),
    ],
)
def test_the_final_state_is_a_vector(own, message):
    with pytest.raises(ProgramError, match=rf"{message}.*test_own_sampler_refused\.py, line \d+"):
        build_program(SPEC, own, 3)


def test_vectors_of_another_run_are_refused():
    kept = {}

    def keeper(run):
        now, _ = run.steps[0]
        kept["run"], kept["x0"] = run, run.denoise(run.x, now).x0
        return kept["x0"]

    def called(run):
        x = run.denoise(run.x, run.steps[0][0]).x0
        return run.denoise(kept["x0"], run.steps[1][0]).x0 + x  # here

    def first_called(run):
        return run.denoise(kept["run"].x, run.steps[0][0]).x0  # here

    def combined(run):
        x = run.denoise(run.x, run.steps[0][0]).x0
        return x - 0.5 * kept["x0"]  # here

    def asked_of_the_other_run(run):
        return run.denoise(run.x, run.steps[0][0]).x0 + kept["run"].noise()  # here

    build_program(SPEC, keeper, 3)
    for own in (called, first_called, combined, asked_of_the_other_run):
        assert_refused(own, "every run has its own", own)

    def returned(run):
        run.denoise(run.x, run.steps[0][0])
        return kept["x0"]

    with pytest.raises(ProgramError, match="returns a vector of another run"):
        build_program(SPEC, returned, 3)


def test_a_list_of_past_values_outside_of_the_function_is_refused_the_second_time():
    past = []

    @revstep.sampler
    def leaks(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            past.insert(0, d.eps)
            eps = sum(past[:2]) / len(past[:2])
            x = then.alpha * d.x0 + then.sigma * eps
        return x

    build_program(SPEC, leaks, 4)
    with pytest.raises(ProgramError, match="keep no vector outside of the function"):
        build_program(SPEC, leaks, 5)


@pytest.mark.parametrize(
    "number", [lambda at: math.log(at.sigma), lambda at: math.sqrt(at.sigma - 1.0)]
)
def test_a_function_of_math_out_of_its_domain_is_refused_with_step_and_line(number):
    def out_of_domain(run, x, d, now, then):
        return then.alpha * d.x0 + number(then) * d.eps

    with pytest.raises(
        ProgramError, match=r"has no number in test_own_sampler_refused.py, line \d+ after network"
    ):
        build_program(SPEC, each_step(out_of_domain), 5)


def test_a_samplers_own_refusal_is_not_reworded():
    def own(run):
        raise ValueError("only even numbers of steps")

    with pytest.raises(ValueError, match=r"^only even numbers of steps$"):
        build_program(SPEC, own, 5)
