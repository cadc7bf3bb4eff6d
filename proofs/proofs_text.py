"""The words of docs/proofs.md; every number in them is filled in from the results."""

INTRODUCTION = """\
# Proofs

What the samplers do where the answer is known exactly. One command, in a checkout, runs all of it,
and writes this page, its plots and `bench/results/proofs.json`:

```sh
pip install '.[cpu,export,plots]'
python -m proofs             # --only convergence laws ... for parts
```

The samplers are run as the tables they are traced into (`build_program`), row by row, in float64
and with clipping off. The network is exact: the posterior mean of three Gaussian modes in the
plane, of unequal weights and widths, as the prediction that the description asks for. The noise is
the engine's own. [samplers.md](samplers.md) compares the same tables with published
implementations.
"""

CONVERGENCE = """
## Order of convergence

![log-log plot of errors against steps](images/convergence.png)

Every ODE solver between two positive noise levels, against the exact flow (Runge and Kutta's
method, extrapolated; halving its steps changes it by {reference_error:.0e}). The grid is even in
the variable of the method's theory: lambda = log(alpha / sigma), sigma / alpha, or a flow's t;
sigma / alpha falls {levels}. The error is the root mean square over {trajectories} trajectories;
the slope is fitted to the last four of {steps} steps. A slope falls short of the order by 0.2 at
most: the tests refuse more.

A method with history starts at lower orders, and so reaches only the order of its start, however
high its own (one first-order step leaves an error of second order in h): *own start* is what a run
of the engine has. *Exact start* puts the first states on the exact flow and shows the method.

"""

CONVERGENCE_NOTES = """
- **DPM-Solver++(3M) as published is of order 2.** Its D2 is Newton's divided difference, half of
  h² x0'', and the published step multiplies it by the coefficient of h² x0''. The authors' code,
  diffusers and k-diffusion agree on it, so it is `dpmpp_3m`'s default; `third="taylor"` doubles the
  term and has order 3.
- UniPC's corrector raises the predictor's order p by one.
- iPNDM and PNDM have the weights of even steps: their order is the method's where the grid is even
  in sigma / alpha, and 2 on other grids.
"""

LAWS = """
## Laws of the stochastic samplers

![distances to the true law against steps](images/laws.png)

**One mode, exactly.** For N(1, 0.5²) the denoiser is affine, so the final state is an affine
function of all the noises, and its law follows from the table without drawing anything. The
distance (2-Wasserstein) to the true law, from sigma / alpha = {high:g} to {low:g} on grids even in
lambda, falls with a fitted slope; a sampler whose own part doesn't shrink with the steps (a
corrector, Langevin steps) has none.

**The mixture, by samples.** From noise to the clean end, {samples:,} samples against as many exact
draws: the sliced energy distance, a permutation test of it (a p of {level:g} or less rejects; that
is then repeated on other draws, *again*, and stands if both reject), and the largest errors of a
mean and a covariance in standard errors. The distances are one a number of steps; p and the moments
are those of the most steps. The network of `consistency` and `lcm` is the exact consistency
function, so any number of steps is right.

"""

CONTROLS = """
**Controls.** The same checks must reject what is wrong:

"""

TRAINING_SET = """
## A finite training set

![share of runs that return](images/training_set.png)

The ideal denoiser of {points} random points in {elements} dimensions is their mean, weighted by
how likely each is behind the noise. {runs} runs of {steps} steps from pure noise end on training
points; the farthest any element of any run ends from one:

"""

TRAINING_SET_NOTES = """
LMS and iPNDM mix older noises into their last step, which leaves a trace.

From a training point under noise, DDIM goes back to that point as long as the noise leaves no doubt
which it was, and to any of them when it does:

"""

DESCRIPTIONS = """
## One process, described three ways

Variance preserving, variance exploding and flow descriptions of one process, over the same noise
levels ({high:g} to {low:g} in {steps} steps, then clean) and from the same noise, give the same
samples. The largest difference of any element of {samples} samples:

"""

DESCRIPTIONS_NOTES = """
These depend on the description, and agree as the steps grow (the median difference):

"""

FUSED = """
## The fused kernel

The engine itself, in float32 and through the fused kernel, with the exact network as its module:
{samples:,} samples in {steps} steps against as many exact draws.

"""

REPAINT = """
RePaint with the first coordinate known to be {known:g}, 50 steps and jumps of 5, against the exact
conditional law. It comes closer with every repeat; it is not exact, and the test says so:

"""

QUALITY = """
## Quality against steps

![Fréchet distance and accuracy against network calls](images/quality_steps.png)

The bundled Fashion-MNIST denoiser on ONNX Runtime in fp32: {images} images a point, as many of
every class, seed {seed}, guidance {guidance:g}{off}, the spec's own clipping, each sampler with its
defaults, on the grid that the table names. The Fréchet distance is on the 64 features of the
example's classifier, against the real test set; it falls with the number of images, so these points
compare with each other only. The classifier is right about {real_accuracy:.1%} of the real test
set. Heun calls the network twice a step: the plot is over calls. The mean of two slopes over
sigma / alpha does not survive the first step of this schedule's `trailing` grid, which is why Heun
has the grid of its paper. Each cell is *Fréchet distance, accuracy*. Rows:
`bench/results/quality_steps.jsonl`.

By chance alone, {repeated} with {seeds} seeds gives {least:.2f} to {most:.2f} and {low:.3f} to
{high:.3f}: what differs by less says nothing.

"""
