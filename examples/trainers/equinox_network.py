"""A JAX network (Equinox) as an ONNX file, by jax2onnx; revstep takes the file.

Copy this file, load your checkpoint in ``build``, and run

    python equinox_network.py denoiser.onnx
    revstep export --onnx denoiser.onnx --spec equinox_network.toml -o denoiser.revstep

jax2onnx writes opset 23 unless told otherwise; revstep reads 18 to 22.
"""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax2onnx

SHAPE = (1, 8, 8)


class Denoiser(eqx.Module):
    """A picture and its training index -> v = alpha eps - sigma x0; small."""

    time: eqx.nn.MLP
    first: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    last: eqx.nn.Conv2d

    def __init__(self, key: jax.Array, width: int = 8) -> None:
        time, first, last = jax.random.split(key, 3)
        self.time = eqx.nn.MLP(16, width, 16, 1, key=time)
        self.first = eqx.nn.Conv2d(SHAPE[0], width, 3, padding=1, key=first)
        self.norm = eqx.nn.GroupNorm(2, width)
        self.last = eqx.nn.Conv2d(width, SHAPE[0], 3, padding=1, key=last)

    def __call__(self, x: jax.Array, t: jax.Array) -> jax.Array:
        """One sample, without a batch: (1, 8, 8) and () -> (1, 8, 8)."""
        angle = t * jnp.exp(-jnp.log(1e4) * jnp.arange(8) / 8)
        time = self.time(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)]))
        return self.last(jax.nn.silu(self.norm(self.first(x)) + time[:, None, None]))


def build() -> Denoiser:
    """Your network."""
    network = Denoiser(jax.random.PRNGKey(0))
    # network = eqx.tree_deserialise_leaves("denoiser.eqx", network)
    return eqx.nn.inference_mode(network)


def write(network: Denoiser, path: str) -> None:
    """The ONNX file of a network, for any number of samples at once."""
    jax2onnx.to_onnx(
        jax.vmap(network),
        [("B", *SHAPE), ("B",)],
        input_names=["sample", "timestep"],
        output_names=["output"],
        opset=20,
        return_mode="file",
        output_path=path,
    )


if __name__ == "__main__":
    write(build(), sys.argv[1])
