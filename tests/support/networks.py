"""Denoisers in plain numpy: analytic ones, and ones that misbehave."""

import numpy as np


class NumpyDenoiser:
    """A denoiser whose network is ``function(x, t, conditions) -> out``.

    A second time is among the conditions, by its name.
    """

    def __init__(self, spec, function):
        self.spec = spec
        self.function = function
        self.rows = []

    def bind(self, buffers):
        rest = buffers.conditions
        if self.spec.second_time is not None:
            rest = {self.spec.second_time.name: buffers.second, **rest}

        def call():
            self.rows.append(len(buffers.t))
            buffers.out[:] = self.function(buffers.x, buffers.t, rest)

        return call

    def describe(self):
        return {"backend": "numpy"}


def gaussian_epsilon(spec, mean=0.5, spread=0.25):
    """The exact epsilon network of data N(mean, spread²), element by element."""

    def network(x, t, conditions):
        alpha, sigma = spec.schedule.alpha_sigma(np.asarray(t, np.float64))
        shape = (-1,) + (1,) * (x.ndim - 1)
        alpha, sigma = alpha.reshape(shape), sigma.reshape(shape)
        centre = mean + sum(
            (np.asarray(c, np.float64).reshape(shape) for c in conditions.values()), np.zeros(1)
        )
        score = -(x - alpha * centre) / (alpha**2 * spread**2 + sigma**2)
        return (-sigma * score).astype(np.float32)

    return network
