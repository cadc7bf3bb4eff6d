"""The papers' algorithms in plain numpy, for what diffusers lacks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from proofs.oracles.case import Case
from proofs.oracles.network import Float64, TestNetwork
from proofs.oracles.schedulers import Noise
from revstep.engine.program.steps import steps_over

Levels = list[tuple[float, float]]


def levels(case: Case) -> Levels:
    """(alpha, sigma) of every call of the grid, and of its end."""
    grid = steps_over(case.spec, case.steps)
    points = [*(now for now, _ in grid), grid[-1][1]]
    return [(p.alpha, p.sigma) for p in points]


def denoiser(network: TestNetwork, case: Case) -> Callable[[Float64, float], Float64]:
    """D(y; sigma) of Karras et al. 2022: y = x / alpha at noise level sigma / alpha."""
    ve = case.spec.schedule.kind == "ve"

    def denoise(y: Float64, sigma: float) -> Float64:
        alpha = 1.0 if ve else 1.0 / math.hypot(1.0, sigma)  # VP: alpha² (1 + sigma²) = 1
        return network.estimate(alpha * y, alpha, alpha * sigma)[0]

    return denoise


def scaled(case: Case) -> list[float]:
    """The grid's noise levels sigma / alpha."""
    return [sigma / alpha for alpha, sigma in levels(case)]


def edm_algorithm_2(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Karras et al. 2022, algorithm 2 (order 1: without lines 7 and 8); ``x`` is x_hat of line 6.

    The noise of line 4 is that of the last network call before it.
    """
    o: dict[str, Any] = {"churn": 0.0, "low": 0.0, "high": math.inf, "scale": 1.0, "order": 2}
    o |= case.options
    denoise, t = denoiser(network, case), scaled(case)
    ve = case.spec.schedule.kind == "ve"
    highest = math.inf if ve else case.spec.schedule.level_range[1] * 1.0001  # of the training
    gamma = min(o["churn"] / (len(t) - 1), math.sqrt(2.0) - 1.0)
    y: Float64 | None = None
    calls = 0
    for now, then in itertools.pairwise(t):
        raised = o["low"] <= now <= o["high"] and now * (1.0 + gamma) <= highest
        hat = now * (1.0 + gamma) if raised else now
        if y is None:
            y = x if ve else x * math.hypot(1.0, hat)
        elif hat > now:
            y = y + math.sqrt(hat**2 - now**2) * o["scale"] * noise(calls - 1)
        d = (y - denoise(y, hat)) / hat
        after = y + (then - hat) * d
        calls += 1
        if then != 0.0 and o["order"] == 2:
            d_2 = (after - denoise(after, then)) / then
            after = y + (then - hat) * (0.5 * d + 0.5 * d_2)
            calls += 1
        y = after
    assert y is not None
    return y


def k_diffusion_ancestral(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """k-diffusion's ``sample_euler_ancestral`` and ``sample_dpm_2_ancestral``, for any eta."""
    eta = case.options.get("eta", 1.0)
    denoise, sigmas = denoiser(network, case), scaled(case)
    y = x * math.hypot(1.0, sigmas[0]) if case.spec.schedule.kind == "vp" else x
    call = 0
    for sigma, then in itertools.pairwise(sigmas):
        up = min(then, eta * math.sqrt(then**2 * (sigma**2 - then**2) / sigma**2))
        down = math.sqrt(then**2 - up**2)
        d = (y - denoise(y, sigma)) / sigma
        if case.sampler == "dpm2_ancestral" and down > 0.0:
            middle = math.exp(0.5 * (math.log(sigma) + math.log(down)))
            between = y + d * (middle - sigma)
            d = (between - denoise(between, middle)) / middle
            call += 1
        y = y + d * (down - sigma) + up * noise(call)
        call += 1
    return y


def k_diffusion_sde(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """k-diffusion's ``sample_dpmpp_2m_sde`` and ``sample_dpmpp_3m_sde``, and their first order."""
    order = int(case.sampler[6])
    eta = case.options.get("eta", 1.0)
    denoise, sigmas = denoiser(network, case), scaled(case)
    y = x * math.hypot(1.0, sigmas[0]) if case.spec.schedule.kind == "vp" else x
    d_1: Float64 | None = None
    d_2: Float64 | None = None
    h_1 = h_2 = 0.0
    for i, (sigma, then) in enumerate(itertools.pairwise(sigmas)):
        denoised = denoise(y, sigma)
        if then == 0.0:
            return denoised
        h = math.log(sigma) - math.log(then)
        h_eta = h * (eta + 1.0)
        y = math.exp(-h_eta) * y + (-math.expm1(-h_eta)) * denoised
        phi_2 = math.expm1(-h_eta) / h_eta + 1.0
        if order == 3 and d_2 is not None and d_1 is not None:
            r_0, r_1 = h_1 / h, h_2 / h
            first, before = (denoised - d_1) / r_0, (d_1 - d_2) / r_1
            y = y + phi_2 * (first + (first - before) * r_0 / (r_0 + r_1))
            y = y - (phi_2 / h_eta - 0.5) * (first - before) / (r_0 + r_1)
        elif order > 1 and d_1 is not None:
            y = y + phi_2 * (denoised - d_1) / (h_1 / h)
        if eta:
            y = y + noise(i) * then * math.sqrt(-math.expm1(-2.0 * h * eta))
        d_1, d_2, h_1, h_2 = denoised, d_1, h, h_1
    raise AssertionError("the grid ends at sigma = 0")


def predictor_corrector(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Song et al. 2021: algorithms 2 and 3 (VE) or 4 and 5 (VP), Langevin as the corrector.

    The corrector's norms are those of noise and score on average, sqrt(D) and sqrt(D) / sigma.
    The last predictor step is the mean alone, as in the authors' code; to sigma = 0 it is x0.
    """
    snr = case.options.get("snr", 0.16)
    corrections = case.options.get("corrections", 0 if case.sampler == "reverse_sde" else 1)
    root = math.sqrt(x[0].size)
    call = 0
    for (alpha, sigma), (alpha_s, sigma_s) in itertools.pairwise(levels(case)):
        shrink = (alpha / alpha_s) ** 2  # 1 - beta_t of VP
        for _ in range(corrections):
            grad = -network.estimate(x, alpha, sigma)[1] / sigma
            step = (snr * root / (root / sigma)) ** 2 * 2.0 * shrink
            x = x + step * grad + math.sqrt(step * 2.0) * noise(call)
            call += 1
        x0, eps = network.estimate(x, alpha, sigma)
        score = -eps / sigma
        if case.spec.schedule.kind == "ve":
            beta = sigma**2 - sigma_s**2
            mean = x + beta * score
        else:
            beta = 1.0 - shrink
            mean = (2.0 - math.sqrt(1.0 - beta)) * x + beta * score
        x = mean + math.sqrt(beta) * noise(call)
        call += 1
    return alpha_s * x0 if sigma_s == 0.0 else mean


def langevin_algorithm_1(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Song & Ermon 2019, algorithm 1, in y = x / alpha; then x0 at the last level."""
    repeats, part = case.options.get("repeats", 5), case.options.get("step", 0.3)
    denoise = denoiser(network, case)
    sigmas = scaled(case)[:-1]
    y = x * math.hypot(1.0, sigmas[0]) if case.spec.schedule.kind == "vp" else x
    epsilon = part * sigmas[-1] ** 2
    call = 0
    for sigma in sigmas:
        step = epsilon * sigma**2 / sigmas[-1] ** 2
        for _ in range(repeats):
            score = (denoise(y, sigma) - y) / sigma**2
            y = y + step / 2.0 * score + math.sqrt(step) * noise(call)
            call += 1
    if not case.options.get("denoise", True):
        return y / math.hypot(1.0, sigmas[-1]) if case.spec.schedule.kind == "vp" else y
    return denoise(y, sigmas[-1])


def consistency_algorithm_1(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Song et al. 2023, algorithm 1, with the network's x0 as f."""
    sigma_min = case.options.get("sigma_min", 0.002)
    for i, (now, then) in enumerate(itertools.pairwise(levels(case))):
        x0 = network.estimate(x, *now)[0]
        x = then[0] * x0 + math.sqrt(max(then[1] ** 2 - sigma_min**2, 0.0)) * noise(i)
    return np.asarray(x)


def pseudo_numerical(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Zhang & Chen 2023, iPNDM: Adams and Bashforth's mean of past eps, then DDIM's step."""
    del noise
    weights: dict[int, list[float]] = {1: [1.0], 2: [3 / 2, -1 / 2]}
    weights |= {3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    order, past = case.options.get("order", 4), list[Float64]()
    for (alpha, sigma), (alpha_s, sigma_s) in itertools.pairwise(levels(case)):
        past = [network.estimate(x, alpha, sigma)[1], *past][:order]
        eps = sum(w * e for w, e in zip(weights[len(past)], past, strict=True))
        x = alpha_s * (x - sigma * eps) / alpha + sigma_s * eps
    return x


def added(low: tuple[float, float], high: tuple[float, float]) -> float:
    """Variance of q(x_high | x_low): VP's beta."""
    return high[1] ** 2 - (high[0] / low[0]) ** 2 * low[1] ** 2


def repaint_algorithm_1(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Lugmayr et al. 2022, algorithm 1 with no pixel known, over the authors' jump schedule.

    The paper adds noise in every step up; here each is its share of one draw, so that their sum
    is that draw with the root of the summed variances.
    """
    o = {"jump_length": 10, "repeats": 10, "eta": 1.0} | dict(case.options)
    at = levels(case)[::-1]  # by the authors' t, 0 is clean
    count, t = len(at) - 1, len(at) - 1
    length = o["jump_length"]
    jumps = dict.fromkeys(range(1, count - length + 1, length), o["repeats"] - 1)
    call = 0
    while t >= 1:
        (alpha, sigma), (alpha_s, sigma_s) = at[t], at[t - 1]
        x0, eps = network.estimate(x, alpha, sigma)
        std = o["eta"] * sigma_s / sigma * math.sqrt(added(at[t - 1], at[t]))
        x = alpha_s * x0 + math.sqrt(max(sigma_s**2 - std**2, 0.0)) * eps
        parts = [std]
        t -= 1
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(length):
                ratio = at[t + 1][0] / at[t][0]  # sqrt(1 - beta) of VP
                x = ratio * x
                parts = [*(ratio * p for p in parts), math.sqrt(added(at[t], at[t + 1]))]
                t += 1
        if any(parts):
            shares = [p / math.hypot(*parts) for p in parts]
            x = x + sum(p * share for p, share in zip(parts, shares, strict=True)) * noise(call)
        call += 1
    return x


def sa_solver_algorithm_1(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Xue et al. 2023, algorithm 1, of the x0; the noise of a step is the corrector's, too."""
    options: dict[str, Any] = {"predictor": 2, "corrector": 2, "tau": 1.0} | dict(case.options)
    grid = steps_over(case.spec, case.steps)
    known: list[tuple[float, Float64]] = []  # (lambda, x0), newest first
    last: tuple[Float64, tuple[float, ...], int] | None = None
    for call, (now, then) in enumerate(grid):
        x0 = network.estimate(x, now.alpha, now.sigma)[0]
        if last is not None and options["corrector"]:
            base, step, order = last
            x = base + adams(step, [(now.lam, x0), *known][:order])
        known = [(now.lam, x0), *known][:3]
        left = len(grid) - call
        if then.sigma == 0.0:
            return then.alpha * x0
        tau = options["tau"] if 200 <= now.index <= 800 else 0.0
        h = then.lam - now.lam
        base = then.sigma / now.sigma * math.exp(-(tau**2) * h) * x
        base = base + then.sigma * math.sqrt(1.0 - math.exp(-2.0 * tau**2 * h)) * noise(call)
        step = (now.lam, then.lam, then.alpha, tau)
        last = (base, step, min(options["corrector"], len(known) + 1, left + 1))
        x = base + adams(step, known[: min(options["predictor"], left)])
    raise AssertionError("the grid ends at sigma = 0")


def adams(step: tuple[float, ...], values: list[tuple[float, Float64]]) -> Float64:
    """The polynomial through values, integrated with c e^(-c (end - lambda)); times alpha.

    By its powers of lambda - start: J_k = h^k - (k / c) J_(k-1), J_0 = 1 - e^(-c h).
    """
    start, end, alpha, tau = step
    c, h = 1.0 + tau**2, end - start
    powers = np.vander([lam - start for lam, _ in values], increasing=True)
    coefficients = np.tensordot(np.linalg.inv(powers), np.stack([v for _, v in values]), 1)
    integral, total = 1.0 - math.exp(-c * h), 0.0
    for k, coefficient in enumerate(coefficients):
        integral = integral if k == 0 else h**k - k / c * integral
        total = total + integral * coefficient
    return np.asarray(alpha * total)
