"""The Equinox network of examples/trainers run by JAX: what its ONNX file is compared with.

    python tests/support/equinox_run.py

writes tests/examples/trainers/equinox.onnx and equinox.npz, so that the file of jax2onnx and JAX's
own numbers are there where JAX isn't. Made with jax 0.10.2, equinox 0.13.8 and jax2onnx 0.17.1.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from example_files import imported
from jax import vmap

import revstep

GOLDEN = Path(__file__).parents[1] / "examples" / "trainers" / "equinox"
SCHEDULE = revstep.schedules.VPSchedule(betas="squaredcos_cap_v2")
TIMES = tuple(range(999, -1, -50))  # trailing, 20 calls


def outputs(network):
    """(states, times, what JAX computes of them)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 1, 8, 8)).astype(np.float32)
    t = np.array([0, 1, 250, 700, 999], np.float32)
    return x, t, np.asarray(vmap(network)(x, t))


def samples(network):
    """(the initial noise, DDIM's samples of it), all in JAX's float32."""
    noise = np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(np.float32)
    levels = [(float(a), float(s)) for a, s in map(SCHEDULE.alpha_sigma, TIMES)] + [(1.0, 0.0)]
    x = levels[0][1] * jnp.asarray(noise)
    for t, (alpha, sigma), (then, noisy) in zip(TIMES, levels, levels[1:], strict=False):
        v = vmap(network)(x, jnp.full(len(x), float(t)))
        x0, eps = alpha * x - sigma * v, sigma * x + alpha * v
        x = then * x0 + noisy * eps
    return noise, np.asarray(x)


def main():
    example = imported("trainers/equinox_network.py")
    network = example.build()
    example.write(network, str(GOLDEN.with_suffix(".onnx")))
    x, t, out = outputs(network)
    noise, x0 = samples(network)
    np.savez_compressed(GOLDEN.with_suffix(".npz"), x=x, t=t, out=out, noise=noise, samples=x0)


if __name__ == "__main__":
    main()
