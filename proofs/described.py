"""What each sampler is: its source and its step, in a line."""

from __future__ import annotations

__all__ = ["DIFFERENCES", "SOURCES"]

# name: (source, the step)
SOURCES = {
    "ddim": (
        "[Song, Meng & Ermon 2021](https://arxiv.org/abs/2010.02502), eq. 12",
        "x_s = α_s x0 + √(σ_s² - s²) ε + s z, s = η times the posterior's deviation",
    ),
    "ddpm": (
        "[Ho, Jain & Abbeel 2020](https://arxiv.org/abs/2006.11239), eq. 7; learned variance: "
        "[Nichol & Dhariwal 2021](https://arxiv.org/abs/2102.09672), eq. 15",
        "x_s = mean of q(x_s given x_t, x0) + noise",
    ),
    "euler": (
        "[Karras et al. 2022](https://arxiv.org/abs/2206.00364), Euler's method",
        "d(x/α)/d(σ/α) = ε: x_s = α_s x0 + σ_s ε",
    ),
    "euler_ancestral": (
        "k-diffusion, `sample_euler_ancestral`",
        "Euler to σ_down, then noise σ_up; σ_up² + σ_down² = σ_s²",
    ),
    "heun": (
        "[Karras et al. 2022](https://arxiv.org/abs/2206.00364), algorithm 1",
        "Heun's method on d(x/α)/d(σ/α) = ε; the last step to σ = 0 is Euler's",
    ),
    "edm": (
        "[Karras et al. 2022](https://arxiv.org/abs/2206.00364), algorithm 2",
        "noise up to σ(1 + γ), then Heun's step down to σ_s",
    ),
    "dpm2": (
        "[Lu et al. 2022](https://arxiv.org/abs/2206.00927), DPM-Solver-2; k-diffusion, "
        "`sample_dpm_2`",
        "the slope at the geometric mean of the two noise levels",
    ),
    "dpm2_ancestral": (
        "k-diffusion, `sample_dpm_2_ancestral`",
        "dpm2 to σ_down, then noise σ_up",
    ),
    "dpmpp_1s": (
        "[Lu et al. 2022](https://arxiv.org/abs/2211.01095), first order",
        "x_s = (σ_s/σ_t) x + α_s (1 - e^-h) x0, h = λ_s - λ_t, λ = log(α/σ)",
    ),
    "dpmpp_1s_sde": (
        "[Lu et al. 2022](https://arxiv.org/abs/2211.01095), SDE, first order",
        "x_s = (σ_s/σ_t) e^-h x + α_s (1 - e^-2h) x0 + σ_s √(1 - e^-2h) z",
    ),
    "dpmpp_2s": (
        "[Lu et al. 2022](https://arxiv.org/abs/2211.01095), algorithm 1",
        "pairs of steps: the second goes over both, with the x0 of both calls",
    ),
    "dpmpp_2s_sde": (
        "[Lu et al. 2022](https://arxiv.org/abs/2211.01095), SDE; diffusers' singlestep solver",
        "as dpmpp_2s, each step with noise of its own",
    ),
    "dpmpp_2m": (
        "[Lu et al. 2022](https://arxiv.org/abs/2211.01095), algorithm 2",
        "first order with the difference from the last x0",
    ),
    "dpmpp_2m_sde": (
        "[Lu et al. 2022](https://arxiv.org/abs/2211.01095), SDE; k-diffusion, "
        "`sample_dpmpp_2m_sde`",
        "dpmpp_2m with noise σ_s √(1 - e^-2ηh) z",
    ),
    "dpmpp_3m": (
        "the authors' code of [DPM-Solver++](https://arxiv.org/abs/2211.01095), multistep 3",
        "dpmpp_2m with the second difference of x0",
    ),
    "dpmpp_3m_sde": (
        "k-diffusion, `sample_dpmpp_3m_sde`",
        "dpmpp_3m with noise σ_s √(1 - e^-2ηh) z",
    ),
    "unipc": (
        "[Zhao et al. 2023](https://arxiv.org/abs/2302.04867), algorithms 5 to 8",
        "the x0 at the predicted state corrects it, then predicts the next",
    ),
    "lms": (
        "k-diffusion, `sample_lms`",
        "the Lagrange polynomial through past ε, integrated over σ/α",
    ),
    "ipndm": (
        "[Zhang & Chen 2023](https://arxiv.org/abs/2204.13902), iPNDM",
        "Adams and Bashforth's mean of past ε, then DDIM's step",
    ),
    "pndm": (
        "[Liu et al. 2022](https://arxiv.org/abs/2202.09778), eq. 9 to 12",
        "ipndm, started by Heun's method",
    ),
    "flow_euler": (
        "[Lipman et al. 2023](https://arxiv.org/abs/2210.02747), "
        "[Liu et al. 2023](https://arxiv.org/abs/2209.03003)",
        "x_s = x_t + (s - t) v, v = ε - x0",
    ),
    "flow_heun": (
        "the same, Heun's method",
        "x_s = x_t + (s - t) (v_t + v_s) / 2; the last step to t = 0 is Euler's",
    ),
    "reverse_sde": (
        "[Song et al. 2021](https://arxiv.org/abs/2011.13456), eq. 46; Anderson 1982",
        "x_s = (2 - r) x + G² score + G z, r = α_t/α_s, G² = σ_t² - r² σ_s²",
    ),
    "predictor_corrector": (
        "[Song et al. 2021](https://arxiv.org/abs/2011.13456), algorithms 2 to 5",
        "x + e score + √(2e) z with e = 2 (snr σ_t r)², then the reverse SDE's step",
    ),
    "langevin": (
        "[Song & Ermon 2019](https://arxiv.org/abs/1907.05600), algorithm 1",
        "at each level, so often: y + (a/2) score + √a z, y = x/α; in the end x0",
    ),
    "lcm": (
        "[Luo et al. 2023](https://arxiv.org/abs/2310.04378), algorithm 3",
        "f = c_skip x + c_out x0, then noise again: α_s f + σ_s z",
    ),
    "consistency": (
        "[Song et al. 2023](https://arxiv.org/abs/2303.01469), algorithm 1",
        "f, then noise again: α_s f + √(σ_s² - σ_min²) z",
    ),
    "repaint": (
        "[Lugmayr et al. 2022](https://arxiv.org/abs/2201.09865), algorithm 1",
        "DDPM steps down, and up again by noising",
    ),
}

DIFFERENCES = """\
- `DPMSolverMultistepScheduler` (0.42) takes 1/2 away in its third-order SDE step where its own ODE
  step and k-diffusion's SDE step add it. `dpmpp_3m_sde` adds it; the scheduler is compared with
  that sign put right.
- The authors' code, diffusers and k-diffusion all have half of the second difference's exact
  weight in the third multistep order, which leaves it of second order. `dpmpp_3m` agrees with
  them; `third="taylor"` has the whole weight.
- `PNDMScheduler` averages the outputs of a `v_prediction` network, which belong to different
  times, and takes every step to be T // N training indices long. With `compat="diffusers"`, as
  compared here, `pndm` does so, too; else it averages ε, as the paper does, and its steps are the
  grid's.
- `UniPCMultistepScheduler` with `bh1` gives NaN in a step to σ = 0, where B(h) is infinite; it is
  compared down to training index 0. `unipc` takes the limit.
- `IPNDMScheduler` has a process of its own, with α = 0 at its start, where it loses the network's
  answer; it is compared over our noise levels.
- `UniPC` and `DPMSolverMultistepScheduler` cut the times of noise-level grids other than Karras'
  to whole indices; so does `revstep` with `compat="diffusers"`, else it takes the nearest. Those
  grids are compared through Euler and LMS here, and in
  `tests/export/sources/test_scheduler_sweep.py`.
- RePaint of diffusers adds the noise of the stride after the one that it goes up; the oracle is
  the paper's algorithm.
- A `lcm` step mixes x into its estimate, and `ddpm`'s large variance is that of a step in x: over
  EDM's noise levels, where x is scaled otherwise, they are other methods than over VP's. They
  have no oracle there.
- The corrector's step size from each sample's own norms, PNDM's start by Runge and Kutta's method,
  and LMS of order 5 are no rows of numbers, and are refused."""
