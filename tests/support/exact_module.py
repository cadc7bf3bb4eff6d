"""Exact denoisers as torch modules: what training would end at, for any spec, asked at any time."""

import numpy as np
import torch
from torch import nn

from proofs.predictions import prediction_of
from revstep.engine.program.points import points_at
from revstep.engine.spec.prediction import input_scale


class ExactModule(nn.Module):
    """(x, t) -> the spec's prediction for data of a mixture; in float64.

    A time between those of training indices is that between; one beyond is the nearest.
    """

    def __init__(self, mixture, spec):
        super().__init__()
        self.mixture, self.spec = mixture, spec
        natural = spec.schedule.from_index(np.arange(spec.schedule.steps))
        fed = np.array([p.time for p in points_at(spec, natural)])
        self.fed, self.natural = (fed[::-1], natural[::-1]) if fed[-1] < fed[0] else (fed, natural)

    def forward(self, x, t):
        rows = x.double().numpy().reshape(len(x), -1)
        times = np.interp(t.double(), self.fed, self.natural)
        out = np.empty_like(rows)
        for time in np.unique(times):
            out[times == time] = self._at(rows[times == time], float(time))
        return torch.from_numpy(out.reshape(x.shape).astype(np.float32))

    def _at(self, x, time):
        spec = self.spec
        alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(time))
        x = x / input_scale(spec.prediction, alpha, sigma, spec.sigma_data)
        x0 = self.mixture.denoised(x, alpha, sigma)
        return prediction_of(spec, x, x0, (x - alpha * x0) / sigma, time)
