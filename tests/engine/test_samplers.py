"""Samplers against the diffusers schedulers of the same name, in float64."""

import itertools

import numpy as np
import pytest
from rows import run_rows

from revstep.engine import DDIM, DDPM, DenoiserSpec, DPMSolverPP2M, VPSchedule, build_program

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 3, 4, 4)
ROUNDING = 3e-4  # of diffusers' float32 tables: 1 - abar near t = 0 keeps only 3 digits
EXACT = 1e-9  # diffusers stepping over float64 tables
SINGLE = 2e-6  # the same where diffusers holds the state in float32
PREDICTIONS = ("epsilon", "sample", "v_prediction")
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
SPACINGS = ("trailing", "leading", "linspace")


def network(x, time):
    """A smooth nonlinear map of state and time, the same in numpy and torch."""
    shift = 0.3 * float(np.sin(0.01 * float(time)))
    tanh = torch.tanh if isinstance(x, torch.Tensor) else np.tanh
    flip = torch.flip(x, [1]) if isinstance(x, torch.Tensor) else x[:, ::-1]
    return tanh(0.7 * x + 0.4 * flip + shift)


def variance(x, time):
    return np.cos(np.asarray(x) + 0.02 * float(time))


def spec_for(betas, prediction, *, clip=False, spacing="trailing", **more):
    schedule = VPSchedule(betas=betas, zero_terminal_snr=more.pop("zero_terminal_snr", False))
    return DenoiserSpec(
        shape=SHAPE[1:],
        schedule=schedule,
        prediction=prediction,
        spacing=spacing,
        value_range=(-1.0, 1.0),
        clip=clip,
        **more,
    )


def config(spec, **more):
    return {
        "beta_schedule": spec.schedule.betas,
        "beta_start": spec.schedule.beta_start,
        "beta_end": spec.schedule.beta_end,
        "prediction_type": spec.prediction,
        "timestep_spacing": spec.spacing,
        "rescale_betas_zero_snr": spec.schedule.zero_terminal_snr,
        **more,
    }


def draws(seed, count):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(SHAPE), [rng.standard_normal(SHAPE) for _ in range(count)]


def with_float64_tables(scheduler, spec):
    """The scheduler over our tables, so that only its stepping is compared."""
    scheduler.alphas_cumprod = torch.from_numpy(spec.schedule.alphas_cumprod)
    if hasattr(scheduler, "sigmas"):
        original = scheduler.set_timesteps

        def set_timesteps(steps):
            original(steps)
            _, sigma = (alpha_sigma := spec.schedule.alpha_sigma(scheduler.timesteps.numpy()))
            scheduler.sigmas = torch.from_numpy(np.append(sigma / alpha_sigma[0], 0.0))

        scheduler.set_timesteps = set_timesteps
    return scheduler


def diffusers_run(scheduler, steps, x, step):
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(x)
    for number, t in enumerate(scheduler.timesteps):
        x = step(scheduler, number, t, x)
    return x.numpy()


def close(got, want, bound=ROUNDING):
    error = float(np.max(np.abs(got - want)) / max(1.0, np.max(np.abs(want))))
    assert error <= bound


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(("betas", "prediction"), [*itertools.product(BETAS, PREDICTIONS)])
def test_ddim_equals_diffusers(betas, prediction, eta, clip):
    for spacing, steps, epsilon in itertools.product(SPACINGS, (7, 20), ("rederive", "keep")):
        spec = spec_for(betas, prediction, clip=clip, spacing=spacing)
        x, z = draws(steps, steps)
        program = build_program(spec, DDIM(eta=eta, epsilon=epsilon), steps, compat="diffusers")
        got, _ = run_rows(program, x, network, lambda i, z=z: z[i])

        def step(scheduler, number, t, x, eta=eta, epsilon=epsilon, z=z):
            return scheduler.step(
                network(x, t),
                t,
                x,
                eta=eta,
                use_clipped_model_output=epsilon == "rederive",
                variance_noise=torch.from_numpy(z[number]) if eta else None,
                return_dict=False,
            )[0]

        settings = config(spec, clip_sample=clip)
        close(got, diffusers_run(diffusers.DDIMScheduler(**settings), steps, x, step))
        exact = with_float64_tables(diffusers.DDIMScheduler(**settings), spec)
        close(got, diffusers_run(exact, steps, x, step), EXACT)


def test_ddim_at_zero_terminal_snr_equals_diffusers():
    spec = spec_for("scaled_linear", "v_prediction", zero_terminal_snr=True)
    x, z = draws(1, 20)
    program = build_program(spec, DDIM(eta=1.0), 20, compat="diffusers")
    assert program.start[0] == 0.0
    got, _ = run_rows(program, x, network, lambda i: z[i])

    def step(scheduler, number, t, x):
        return scheduler.step(
            network(x, t), t, x, eta=1.0, variance_noise=torch.from_numpy(z[number])
        ).prev_sample

    scheduler = diffusers.DDIMScheduler(**config(spec, clip_sample=False))
    close(got, diffusers_run(scheduler, 20, x, step))


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("kind", ["small", "large", "learned"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddpm_equals_diffusers(monkeypatch, prediction, kind, clip):
    from diffusers.schedulers import scheduling_ddpm

    names = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
    for betas, spacing, steps in [
        *itertools.product(BETAS, SPACINGS, (9,)),
        ("linear", "leading", 1000),
    ]:
        spec = spec_for(
            betas, prediction, clip=clip, spacing=spacing, learned_variance=kind == "learned"
        )
        x, z = draws(steps, steps)
        program = build_program(spec, DDPM(variance=kind), steps, compat="diffusers")
        got, _ = run_rows(
            program, x, network, lambda i, z=z: z[i], variance if kind == "learned" else None
        )

        def step(scheduler, number, t, x, z=z):
            m = network(x, t)
            if kind == "learned":
                m = torch.cat([m, torch.from_numpy(variance(x.numpy(), t))], 1)
            monkeypatch.setattr(
                scheduling_ddpm, "randn_tensor", lambda *_, **__: torch.from_numpy(z[number])
            )
            return scheduler.step(m, t, x, return_dict=False)[0]

        settings = config(spec, clip_sample=clip, variance_type=names[kind])
        exact = with_float64_tables(diffusers.DDPMScheduler(**settings), spec)
        close(got, diffusers_run(exact, steps, x, step), EXACT)
        if betas == "linear" or clip:  # else a bounded network's x0 grows to 1e4, and so do errors
            close(got, diffusers_run(diffusers.DDPMScheduler(**settings), steps, x, step))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("betas", BETAS)
def test_dpm_solver_equals_diffusers(betas, prediction):
    for spacing, steps, short in itertools.product(SPACINGS, (1, 2, 8, 25), (True, False)):
        spec = spec_for(betas, prediction, spacing=spacing)
        x, _ = draws(steps, 0)
        program = build_program(
            spec, DPMSolverPP2M(lower_order_final=short), steps, compat="diffusers"
        )
        got, _ = run_rows(program, x, network)
        settings = config(spec, solver_order=2, lower_order_final=short)
        make = diffusers.DPMSolverMultistepScheduler

        def step(scheduler, number, t, x):
            return scheduler.step(network(x, t), t, x, return_dict=False)[0]

        close(got, diffusers_run(make(**settings), steps, x, step))
        exact = with_float64_tables(make(**settings), spec)
        close(got, diffusers_run(exact, steps, x, step), SINGLE)


def test_dpm_solver_needs_its_history():
    spec = spec_for("linear", "epsilon")
    x, _ = draws(3, 0)
    program = build_program(spec, "dpmpp_2m", 10)
    assert program.slots == 1
    got, _ = run_rows(program, x, network)
    first_order, _ = run_rows(build_program(spec, "ddim", 10), x, network)
    assert np.max(np.abs(got - first_order)) > 1e-2


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_with_eta_one_equals_ddpm_small(prediction):
    spec = spec_for("linear", prediction)
    x, z = draws(5, 40)
    ddim, _ = run_rows(build_program(spec, DDIM(eta=1.0), 40), x, network, lambda i: z[i])
    ddpm, _ = run_rows(build_program(spec, DDPM("small"), 40), x, network, lambda i: z[i])
    np.testing.assert_allclose(ddim, ddpm, rtol=1e-9, atol=1e-9)


def test_grids_own_next_time_differs_from_diffusers_stepping_where_steps_do_not_divide():
    spec = spec_for("linear", "epsilon")
    own = build_program(spec, "ddim", 7)
    theirs = build_program(spec, "ddim", 7, compat="diffusers")
    np.testing.assert_array_equal(own.rows[:, 0], theirs.rows[:, 0])
    assert not np.allclose(own.rows[:-1], theirs.rows[:-1])
    same = build_program(spec, "ddim", 20).rows
    np.testing.assert_array_equal(same, build_program(spec, "ddim", 20, compat="diffusers").rows)


def converted(prediction, spec):
    """The network of ``prediction`` whose x0 equals that of the epsilon network ``network``."""

    def call(x, time):
        alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(time))
        eps = network(x, time)
        x0 = (x - sigma * eps) / alpha
        if prediction == "flow":
            return eps - x0
        if prediction == "score":
            return -eps / sigma
        assert prediction == "mean"
        alpha_s, sigma_s = (float(v) for v in spec.schedule.alpha_sigma(time - 1))
        r = alpha / alpha_s
        v = sigma**2 - r**2 * sigma_s**2
        return alpha_s * v / sigma**2 * x0 + r * sigma_s**2 / sigma**2 * x

    return call


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("prediction", ["flow", "score", "mean"])
@pytest.mark.parametrize("sampler", ["ddim", DDIM(eta=0.5, epsilon="keep"), "ddpm", "dpmpp_2m"])
def test_other_predictions_give_the_same_run(sampler, prediction, clip):
    x, z = draws(11, 25)
    base = spec_for("linear", "epsilon", clip=clip)
    want, _ = run_rows(build_program(base, sampler, 25), x, network, lambda i: z[i])
    spec = spec_for("linear", prediction, clip=clip)
    got, _ = run_rows(
        build_program(spec, sampler, 25), x, converted(prediction, spec), lambda i: z[i]
    )
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_ddpm_row_of_a_mean_network_is_exactly_m_plus_noise():
    from revstep.kernels import columns as col

    spec = spec_for("linear", "mean")
    rows = build_program(spec, "ddpm", 1000).rows[:-1]
    np.testing.assert_array_equal(rows[:, col.C_X], 0.0)
    np.testing.assert_array_equal(rows[:, col.C_0], 0.0)
    np.testing.assert_allclose(rows[:, col.C_M], 1.0, rtol=1e-9)
