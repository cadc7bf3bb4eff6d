"""Exact denoisers as torch modules: what training would end at, for any spec, asked at any time."""

import numpy as np
import torch
from torch import nn

from proofs.predictions import prediction_of
from revstep.engine.program.points import points_at
from revstep.engine.spec.prediction import input_scale


class ExactModule(nn.Module):
    """(x, t) -> the spec's prediction for data of a mixture; one call a row, in float64.

    A time between those of training indices is that between; one beyond is the nearest.
    """

    def __init__(self, mixture, spec):
        super().__init__()
        self.mixture, self.spec = mixture, spec
        natural = spec.schedule.from_index(np.arange(spec.schedule.steps))
        fed = np.array([p.time for p in points_at(spec, natural)])
        self.fed, self.natural = (fed[::-1], natural[::-1]) if fed[-1] < fed[0] else (fed, natural)

    def forward(self, x, t):
        rows = zip(x.double().numpy(), np.interp(t.double(), self.fed, self.natural), strict=True)
        out = [self._row(row.reshape(1, -1), float(time)).reshape(row.shape) for row, time in rows]
        return torch.from_numpy(np.stack(out).astype(np.float32))

    def _row(self, x, time):
        spec = self.spec
        alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(time))
        x = x / input_scale(spec.prediction, alpha, sigma, spec.sigma_data)
        x0 = self.mixture.denoised(x, alpha, sigma)
        return prediction_of(spec, x, x0, (x - alpha * x0) / sigma, time)
