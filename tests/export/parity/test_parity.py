"""The reference vectors are right, by oracles that share no code with them."""

import diffusers
import numpy as np
import pytest
import torch
from networks import NumpyDenoiser
from toys import build

from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.errors import BackendError, ExportError, ParityError
from revstep.export import BOUNDS, check_parity, make_parity
from revstep.export.module.examples import example_inputs
from revstep.export.parity.bounds import forward_error, relative_error
from revstep.kernels import normal_fill

INITIAL_STREAM = 1


@pytest.fixture(scope="module")
def policy():
    module, spec, _ = build("policy")
    return module, spec, make_parity(module, spec)


def test_the_outputs_are_the_modules(policy):
    module, _, parity = policy
    inputs = [torch.from_numpy(parity[n]) for n in ("x", "t", "cond.observation")]
    with torch.inference_mode():
        want = module(*inputs).numpy()
    np.testing.assert_allclose(parity["out"], want, atol=1e-6)


def test_the_times_span_the_schedule_and_the_states_have_its_spread():
    _, spec, _ = build("image")
    x, t, label = example_inputs(spec, 8)
    assert (t[0], t[-1]) == (0, 999)
    assert len(set(t)) == 8
    assert x[0].std() == pytest.approx(0.5, rel=0.2)  # data of spread 1/2, hardly any noise
    assert x[-1].std() == pytest.approx(1.0, rel=0.2)
    assert set(label) == {0, 1, 2, 3, 4}


def test_the_final_state_is_diffusers_ddim(policy):
    module, _, parity = policy
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", prediction_type="sample",
        clip_sample=False, timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(20)
    observation = torch.from_numpy(parity["ddim20.cond.observation"])
    count = len(observation)
    noise = np.empty((count, 16), np.float32)
    seeds = np.arange(count, dtype=np.uint64) + np.uint64(parity["ddim20.seed"])
    normal_fill(noise, seeds, 0, INITIAL_STREAM)
    first = scheduler.timesteps[0]
    x = torch.from_numpy(noise.reshape(count, 8, 2)) * (1 - scheduler.alphas_cumprod[first]).sqrt()
    with torch.inference_mode():
        for t in scheduler.timesteps:
            out = module(x, torch.full((count,), float(t)), observation)
            x = scheduler.step(out, t, x).prev_sample
    np.testing.assert_allclose(parity["ddim20.final"], x.numpy(), atol=2e-5)


def test_the_module_agrees_with_itself(policy):
    module, spec, parity = policy
    figures = check_parity(TorchModuleDenoiser(module, spec), parity, "fp32")
    assert figures["forward"] == {"error": pytest.approx(0.0, abs=1e-6), "bound": 1e-4}
    assert figures["ddim20"]["error"] < 1e-6


def shifted(module, spec, amount, only_above=None):
    """The module plus a constant, at times above a limit."""

    def network(x, t, conditions):
        with torch.inference_mode():
            inputs = (x.copy(), t.copy(), conditions["observation"].copy())
            out = module(*(torch.from_numpy(i) for i in inputs)).numpy()
        where = 1.0 if only_above is None else (t > only_above)[:, None, None]
        return out + amount * where

    return NumpyDenoiser(spec, network)


def test_the_forward_error_is_the_largest_over_the_rms(policy):
    module, spec, parity = policy
    rms = float(np.sqrt(np.mean(parity["out"] ** 2)))
    figures = check_parity(shifted(module, spec, 1e-3 * rms), parity, "fp16")
    assert figures["forward"]["error"] == pytest.approx(1e-3, rel=1e-2)
    with pytest.raises(ParityError, match=r"one forward pass differs from the reference by 0\.02"):
        check_parity(shifted(module, spec, 2e-2 * rms), parity, "fp16")


def test_an_error_at_one_time_only_is_found(policy):
    module, spec, parity = policy
    rms = float(np.sqrt(np.mean(parity["out"] ** 2)))
    with pytest.raises(ParityError, match="one forward pass"):
        check_parity(shifted(module, spec, 1e-2 * rms, only_above=98), parity, "fp32")


def test_a_large_outputs_error_is_in_proportion_to_itself():
    want = np.array([[100.0, -100.0]] + [[1.0, -1.0]] * 7)
    got = want * 1.009  # a rounding of 0.009 of each output, as 16 bits make it
    assert forward_error(got, want) == pytest.approx(9e-3)
    assert relative_error(got, want) > 2 * 9e-3  # over the RMS of all times: refused for nothing


def test_a_small_outputs_error_is_held_to_the_rms_over_all_times():
    want = np.array([[1e-3, -1e-3]] + [[1.0, -1.0]] * 7)
    got = want + 5e-3  # values of ordinary size were rounded; their difference is small
    assert forward_error(got, want) == pytest.approx(5e-3 / np.sqrt(7 / 8), rel=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_no_bundle_that_passed_is_refused_by_the_bound_per_time(seed):
    rng = np.random.default_rng(seed)
    want = rng.standard_normal((8, 3, 4)) * np.exp(rng.normal(0, 3, (8, 1, 1)))
    got = want + 1e-2 * rng.standard_normal(want.shape)
    assert forward_error(got, want) <= relative_error(got, want) * (1 + 1e-12)


def test_an_output_of_zeros_is_held_to_absolute_errors():
    assert forward_error(np.full((8, 2), 0.25), np.zeros((8, 2))) == 0.25
    assert forward_error(np.full((8, 2), np.nan), np.zeros((8, 2))) == np.inf


def test_the_run_is_bounded_on_its_own(policy):
    module, spec, parity = policy
    loose = {"forward": 1.0}
    with pytest.raises(ParityError, match="DDIM-20 run"):
        check_parity(shifted(module, spec, 0.05), parity, "fp32", loose)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_output_fails_whatever_the_bounds(policy, value):
    module, spec, parity = policy
    with pytest.raises(ParityError, match="NaN or infinity"):
        check_parity(shifted(module, spec, value), parity, "fp16", {"forward": 1e9, "ddim20": 1e9})


def test_bounds_are_the_designs():
    assert {k: (b.forward, b.ddim20) for k, b in BOUNDS.items()} == {
        "fp32": (1e-4, 1e-3),
        "fp16": (1e-2, 3e-2),
        "bf16": (5e-2, 1e-1),
    }


def test_a_module_that_gives_nan_at_some_time_has_no_reference(policy):
    module, spec, _ = policy

    class Late(torch.nn.Module):
        def forward(self, x, t, observation):
            return module(x, t, observation) / (t > 20)[:, None, None]

    with pytest.raises(ExportError, match="NaN or infinity at time 0"):
        make_parity(Late(), spec)


def test_a_torch_denoiser_runs_on_its_buffers_in_place(policy):
    module, spec, _ = policy
    buffers = NetworkBuffers.allocate(spec, 3)
    call = TorchModuleDenoiser(module, spec).bind(buffers)
    rng = np.random.default_rng(0)
    for _ in range(2):
        buffers.x[:] = rng.standard_normal(buffers.x.shape)
        buffers.t[:] = rng.random(3) * 99
        buffers.conditions["observation"][:] = rng.standard_normal((3, 4))
        call()
        with torch.inference_mode():
            inputs = (buffers.x, buffers.t, buffers.conditions["observation"])
            want = module(*(torch.from_numpy(i.copy()) for i in inputs)).numpy()
        np.testing.assert_array_equal(buffers.out, want)


def test_a_torch_denoiser_refuses_an_output_that_would_broadcast(policy):
    _, spec, _ = policy

    class Narrow(torch.nn.Module):
        def forward(self, x, t, observation):
            return x[:, :1]

    call = TorchModuleDenoiser(Narrow(), spec).bind(NetworkBuffers.allocate(spec, 2))
    with pytest.raises(BackendError, match=r"\(2, 1, 2\), expected \(2, 8, 2\)"):
        call()
