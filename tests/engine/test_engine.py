"""The engine on analytic networks, where the right answer is known."""

import pickle
import threading

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon
from specs import spec_of

from proofs.float64_rows import run_rows
from revstep import (
    Condition,
    Engine,
    GuidanceInterval,
    Request,
    Timing,
    build_program,
)
from revstep.errors import Cancelled, NonFiniteError, ProgramError
from revstep.kernels import columns as col
from revstep.kernels.noise import normals
from revstep.samplers import DDIM

SHAPE = (1, 4, 5)
LABEL = Condition(name="shift", null=0.0)


def spec(**fields):
    return spec_of(**{"shape": SHAPE, "conditions": (LABEL,), "batch": (1, 8)} | fields)


def engine(given=None, **options):
    given = given or spec()
    return Engine(NumpyDenoiser(given, gaussian_epsilon(given)), **options)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", DDIM(eta=0.6), "ddpm"])
def test_run_equals_its_program_in_float64(sampler):
    given = spec()
    network = gaussian_epsilon(given)
    got = engine().sample(3, sampler=sampler, steps=12, seed=41).x
    program = build_program(given, sampler, 12)
    keys = [41, 42, 43]
    draw = lambda index, stream: np.stack(  # noqa: E731
        [normals(k, index, stream, 20) for k in keys]
    ).astype(np.float64)
    want, _ = run_rows(
        program,
        program.start[1] * draw(0, 1),
        lambda x, t: network(x.reshape(3, *SHAPE), np.full(3, t), {"shift": np.zeros(3)}).reshape(
            3, 20
        ),
        lambda row: draw(row, 0),
    )
    np.testing.assert_allclose(got.reshape(3, 20), want, atol=2e-5)


def test_samples_have_the_datas_moments():
    x = engine().sample(600, sampler="dpmpp_2m", steps=200, seed=0).x
    assert x.mean() == pytest.approx(0.5, abs=0.01)
    assert x.std() == pytest.approx(0.25, rel=0.03)


def test_guidance_in_an_interval_is_guidance_there_and_none_elsewhere():
    e = engine()
    asked = {"steps": 6, "seed": 3, "conditions": {"shift": 1.0}, "guidance": 4.0}
    none = e.sample(2, **{**asked, "guidance": 1.0}).x
    everywhere = e.sample(2, **asked).x
    levels = [p.level for p in build_program(spec(), "ddim", 6).points[:-1]]
    middle = GuidanceInterval(lo=levels[4], hi=levels[2])  # steps 2 and 3 of 0 .. 5
    some = e.sample(2, **asked, guidance_weight=middle).x
    np.testing.assert_array_equal(
        e.sample(2, **asked, guidance_weight=GuidanceInterval(lo=1e9)).x, none
    )
    np.testing.assert_array_equal(
        e.sample(2, **asked, guidance_weight=lambda at: 1.0).x, everywhere
    )
    rows = build_program(spec(), "ddim", 6, guidance_weight=middle).rows
    assert rows[:6, col.W].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert not np.allclose(some, none)
    assert not np.allclose(some, everywhere)


def test_rescaled_guidance_is_refused_with_its_reason():
    with pytest.raises(ProgramError, match="standard deviation of the whole sample"):
        engine().sample(1, guidance_rescale=0.7)
    with pytest.raises(ProgramError, match="percentile of the whole sample"):
        engine().sample(1, thresholding=True)
    engine().sample(1, steps=1, guidance_rescale=0.0, thresholding=False)  # off
    with pytest.raises(TypeError, match="guidance_weight must be a function"):
        engine().sample(1, guidance_weight=0.5)
    with pytest.raises(ValueError, match="guidance_weight without guidance"):
        engine().sample(1, guidance_weight=GuidanceInterval(hi=5.0))


def test_an_argument_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(TypeError, match="sample has no argument step; did you mean 'steps'"):
        engine().sample(1, step=3)


def test_a_request_draws_what_its_arguments_draw():
    arguments = {
        "sampler": DDIM(eta=0.3), "steps": 5, "seed": 4, "guidance": [1.0, 2.0, 3.0],
        "conditions": {"shift": [0.1, 0.2, 0.3]}, "start": np.full(SHAPE, 0.2), "strength": 0.6,
        "grid": "leading", "clip": False, "final": "first", "trace_x0": [-1],
    }  # fmt: skip
    e, seen = engine(), []
    want = e.sample(3, **arguments)
    request = Request(n=3, **arguments)
    for n in (request, pickle.loads(pickle.dumps(request))):
        got = e.sample(n, batch_size=2, progress=lambda done, total: seen.append(done))
        np.testing.assert_array_equal(got.x, want.x)
        np.testing.assert_array_equal(got.x0_trace, want.x0_trace)
        assert (got.sampler, got.steps, got.calls) == (want.sampler, want.steps, want.calls)
    assert seen == 2 * [*range(1, 2 * want.calls + 1)]


@pytest.mark.parametrize(
    "argument", [{"steps": 5}, {"seed": 0}, {"decode": False}, {"conditions": {}}]
)
def test_nothing_is_drawn_beside_a_request(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f"{name} is given beside a Request; leave it out") as told:
        engine().sample(Request(n=1), **argument)
    assert told.value.argument == name


def test_defaults_may_be_given_beside_a_request():
    engine().sample(Request(n=1, steps=1), sampler=None, guidance=float("1"), decode=True)


@pytest.mark.parametrize(
    "form",
    [
        {"steps": 4},
        {"sampler": DDIM(eta=0.5), "steps": 3, "guidance": 2.0, "clip": False, "final": "first"},
        {"sampler": "unipc", "steps": 3, "guidance": [1.0, 3.0], "grid": "leading"},
        {"steps": 4, "start": np.full(SHAPE, 0.2), "strength": 0.6},
    ],
    ids=["plain", "guided", "mixed", "start"],
)
def test_resolving_a_form_again_gives_its_run_with_the_new_values(form):
    e = engine()
    for k in range(3):
        values = {"seed": k, "conditions": {"shift": [0.1 * k, 0.2]}, "noise": np.full(SHAPE, k)}
        run, batch = e.resolve(2, **form, **values)
        want = engine().sample(2, **form, **values)
        np.testing.assert_array_equal(run.draw(batch).x, want.x)
        np.testing.assert_array_equal(batch.seeds, want.seeds)
        without = engine().sample(2, **form, seed=k, conditions={"shift": 0.3}).x
        run, batch = e.resolve(2, **form, seed=k, conditions={"shift": 0.3})
        np.testing.assert_array_equal(run.draw(batch).x, without)


@pytest.mark.parametrize("steps", [True, 4.0, "4", 0])
def test_what_equals_a_form_that_came_before_is_still_refused(steps):
    e = engine()
    for _ in range(2):
        e.resolve(1, steps=4)
        e.resolve(1, steps=1)
    with pytest.raises((TypeError, ValueError), match="steps"):
        e.resolve(1, steps=steps)


def test_guidance_extrapolates_between_null_and_condition():
    given = spec(conditions=(Condition(name="shift", null=0.0),))

    def constant(x, t, conditions):
        return np.broadcast_to(conditions["shift"].reshape(-1, 1, 1, 1), x.shape)

    steps = []
    e = Engine(NumpyDenoiser(given, constant))
    # A network that outputs its condition: after guidance m = 1 + g (3 - 1), null given as 1.
    e.sample(
        2,
        steps=1,
        seed=0,
        guidance=[2.0, 1.0],
        conditions={"shift": 3.0},
        null_conditions={"shift": 1.0},
        on_step=lambda p: steps.append(p.x0),
    )
    noise = np.stack([normals(k, 0, 1, 20) for k in (0, 1)]).reshape(2, *SHAPE)
    alpha, sigma = given.schedule.alpha_sigma(999)
    for sample, m in ((0, 1 + 2 * (3 - 1)), (1, 3)):
        want = (sigma * noise[sample] - sigma * m) / alpha
        np.testing.assert_allclose(steps[0][sample], want, rtol=1e-4)


def test_seed_gives_the_same_bits_alone_in_a_batch_and_in_chunks():
    e = engine()
    options = {"sampler": "ddpm", "steps": 6, "conditions": {"shift": 0.3}}
    whole = e.sample(20, seed=100, **options).x
    np.testing.assert_array_equal(e.sample(20, seed=100, batch_size=3, **options).x, whole)
    for k in (0, 7, 19):
        np.testing.assert_array_equal(e.sample(1, seed=100 + k, **options).x[0], whole[k])
    picked = e.sample(seed=[119, 100], **options)
    np.testing.assert_array_equal(picked.x, whole[[19, 0]])
    assert picked.seeds.tolist() == [119, 100]


def test_drawn_seed_is_reported_and_repeats_the_run():
    first = engine().sample(2, steps=3, sampler="ddpm")
    again = engine().sample(2, steps=3, sampler="ddpm", seed=int(first.seeds[0]))
    np.testing.assert_array_equal(first.x, again.x)


def test_start_and_strength_keep_what_a_short_run_cannot_change():
    y = np.full(SHAPE, 0.9, np.float32)
    near = engine().sample(4, start=y, strength=0.05, steps=20, seed=1)
    far = engine().sample(4, start=y, strength=1.0, steps=20, seed=1)
    assert near.calls == 1
    assert far.calls == 20
    assert np.abs(near.x - 0.9).mean() < 0.2
    assert np.abs(far.x - 0.9).mean() > 0.3
    assert engine().sample(start=y, steps=20, seed=1).calls == 16


def test_given_noise_replaces_the_seeds():
    noise = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    a = engine().sample(noise=noise, steps=4, seed=1).x
    b = engine().sample(noise=noise, steps=4, seed=2).x
    np.testing.assert_array_equal(a, b)


def test_progress_previews_and_timing_cover_every_step_of_every_batch():
    done, previews, timing = [], [], Timing()
    engine().sample(
        20,
        steps=5,
        seed=0,
        progress=lambda k, total: done.append((k, total)),
        on_step=previews.append,
        timing=timing,
    )
    assert done == [(k, 15) for k in range(1, 16)]
    assert [(p.first, p.step) for p in previews] == [
        (f, s) for f in (0, 8, 16) for s in range(1, 6)
    ]
    assert previews[-1].x0.shape == (4, *SHAPE)
    assert len(timing.network_ns) == len(timing.outside_ns) == 15


def test_last_preview_is_the_result_of_a_deterministic_run():
    seen = []
    x = engine().sample(2, steps=5, seed=0, on_step=lambda p: seen.append(p.x0)).x
    np.testing.assert_allclose(seen[-1], x, atol=1e-6)


def test_watching_a_run_does_not_change_its_bits():
    watched = engine().sample(3, steps=5, seed=0, on_step=lambda p: p.x0.fill(9.0)).x
    np.testing.assert_array_equal(watched, engine().sample(3, steps=5, seed=0).x)


def test_cancel_ends_the_run_at_the_next_step():
    event, done = threading.Event(), []

    def progress(k, total):
        done.append(k)
        if k == 3:
            event.set()

    with pytest.raises(Cancelled, match="after 3 of 10 steps"):
        engine().sample(2, steps=10, seed=0, progress=progress, cancel=event)
    assert done == [1, 2, 3]
    with pytest.raises(Cancelled, match="after 0"):
        engine().sample(2, steps=10, seed=0, cancel=event)


@pytest.mark.parametrize("name", ["progress", "on_step"])
def test_what_is_told_of_steps_is_a_function(name):
    with pytest.raises(TypeError, match=f"{name} must be a function or None; got int"):
        engine().sample(1, **{name: 3})


def test_cancel_after_the_last_step_keeps_the_result():
    event = threading.Event()
    samples = engine().sample(
        1, steps=2, progress=lambda k, n: k == n and event.set(), cancel=event
    )
    assert len(samples) == 1


def test_non_finite_output_names_samples_and_step_and_leaves_the_engine_usable():
    given = spec(batch=(1, 4))
    exact = gaussian_epsilon(given)

    def network(x, t, conditions):
        out = exact(x, t, conditions)
        out[(t < 500) & (conditions["shift"] > 1)] = np.nan
        return out

    e = Engine(NumpyDenoiser(given, network))
    with pytest.raises(NonFiniteError, match=r"NaN or infinity at step 6 of 10, for sample 5\b"):
        e.sample(6, steps=10, seed=0, conditions={"shift": [0, 0, 0, 0, 0, 2]})
    good = e.sample(1, steps=10, seed=0, conditions={"shift": [0]}).x
    np.testing.assert_array_equal(good, engine().sample(1, steps=10, seed=0).x)


def test_network_batches_stay_in_the_specs_range():
    network = NumpyDenoiser(spec(batch=(3, 8)), gaussian_epsilon(spec()))
    e = Engine(network)
    e.sample(1, steps=2, seed=0)
    e.sample(9, steps=1, seed=0, guidance=2.0, conditions={"shift": 0.1})
    assert network.rows == [3, 3, 8, 8, 3]


def test_reproducible_pads_every_call_to_the_same_rows():
    network = NumpyDenoiser(spec(), gaussian_epsilon(spec()))
    e = Engine(network, reproducible=True)
    assert e.describe()["reproducible"] is True
    for n in (1, 5, 9):
        e.sample(n, steps=1, seed=0)
    assert set(network.rows) == {8}


def test_samplers_that_change_between_calls_are_traced_again():
    import dataclasses

    @dataclasses.dataclass
    class Mine:
        scale: float

        def __call__(self, run):
            return self.scale * run.denoise(run.x, run.steps[0][0]).m

    mine = Mine(1.0)
    once = engine().sample(1, sampler=mine, steps=1, seed=0).x
    e = engine()
    e.sample(1, sampler=mine, steps=1, seed=0)
    mine.scale = 2.0
    np.testing.assert_array_equal(e.sample(1, sampler=mine, steps=1, seed=0).x, 2 * once)


def test_failing_callback_returns_the_workspace():
    e = engine()

    def fail(k, total):
        raise KeyError("mine")

    for _ in range(20):  # more often than there are workspaces
        with pytest.raises(KeyError, match="mine"):
            e.sample(1, steps=2, seed=0, progress=fail)
    assert len(e.sample(1, steps=2, seed=0)) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strength": 0.5}, ValueError, "strength goes with start"),
        ({"start": np.zeros(SHAPE), "strength": 0.0}, ValueError, r"\(0, 1\]"),
        ({"start": np.zeros(SHAPE), "strength": 1.2}, ValueError, r"\(0, 1\]"),
        ({"batch_size": 9}, ValueError, "1 to 8 with 1 network row"),
        ({"batch_size": 0}, ValueError, "1 to 8 with 1 network row"),
        ({"batch_size": "4"}, TypeError, "whole number"),
        (
            {"batch_size": 5, "guidance": 2.0, "conditions": {"shift": 1.0}},
            ValueError,
            "1 to 4 with 2 network row",
        ),
        ({"steps": 0}, ValueError, "1 to 1000"),
        ({"steps": [1, 2]}, TypeError, "whole number"),
        ({"clip": "no"}, TypeError, "clip must be True or False; got str 'no'"),
        ({"cancel": 3}, TypeError, "threading.Event"),
        ({"start": np.zeros(SHAPE), "strength": "1"}, TypeError, "strength must be a number"),
        ({"steps": 1001}, ValueError, "1 to 1000"),
        ({"sampler": "dimm"}, ValueError, "unknown sampler"),
        ({"clip": True}, ValueError, "needs a spec with a value_range"),
    ],
)
def test_bad_arguments_are_refused_before_the_network_is_called(arguments, error, message):
    network = NumpyDenoiser(spec(), gaussian_epsilon(spec()))
    with pytest.raises(error, match=message):
        Engine(network).sample(2, **arguments)
    assert network.rows == []


def test_learned_variance_uses_the_second_half_of_the_output():
    given = spec(learned_variance=True, conditions=())
    mean = gaussian_epsilon(given)

    def with_variance(value):
        def network(x, t, conditions):
            half = mean(x, t, conditions)
            return np.concatenate([half, np.full_like(half, value)], axis=1)

        return Engine(NumpyDenoiser(given, network))

    from revstep.samplers import DDPM

    plain = spec(conditions=())
    for value, variance in ((-1.0, "small"), (1.0, "large")):
        got = with_variance(value).sample(3, sampler=DDPM("learned"), steps=10, seed=5).x
        want = engine(plain).sample(3, sampler=DDPM(variance), steps=10, seed=5).x
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_results_as_torch_share_memory():
    torch = pytest.importorskip("torch")
    samples = engine().sample(2, steps=2, seed=0)
    tensor = samples.torch()
    assert tensor.shape == (2, *SHAPE)
    assert tensor.dtype == torch.float32
    assert tensor.data_ptr() == samples.x.ctypes.data


def test_results_as_images_map_the_value_range():
    pytest.importorskip("PIL")
    from revstep.engine.runtime.samples import images_from

    x = np.array([-1.0, 0.0, 1.0, 3.0], np.float32).reshape(1, 1, 2, 2)
    (image,) = images_from(x, (-1.0, 1.0))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 128], [255, 255]]
    (colour,) = images_from(np.zeros((1, 3, 2, 2), np.float32), (-1.0, 1.0))
    assert colour.mode == "RGB"
    with pytest.raises(ValueError, match="value_range"):
        images_from(x, None)
    with pytest.raises(ValueError, match="1 or 3, H, W"):
        images_from(np.zeros((1, 2, 4, 4), np.float32), (-1.0, 1.0))
