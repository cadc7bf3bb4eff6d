"""A module with a condition of every dtype, which it asserts to get."""

import numpy as np
import torch
from torch import nn

from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule

PROMPT = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)
CONDITIONS = (
    Condition(name="mask", dtype="bool", shape=(5,), null=[True, False, False, False, False]),
    Condition(name="tokens", dtype="int32", shape=(2,), null=0),
    Condition(name="label", dtype="int64", classes=4, null=3),
    Condition(name="prompt", dtype="float16", shape=(5, 4), null=PROMPT),
    Condition(name="scale", dtype="bfloat16", null=1.0),
    Condition(name="shift"),
)
KINDS = (torch.bool, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32)


def spec(*conditions):
    """Of states (4,), 1 to 8 rows a call."""
    return DenoiserSpec(
        shape=(4,), schedule=VPSchedule(), prediction="epsilon", conditions=conditions, batch=(1, 8)
    )


class Every(nn.Module):
    """(B, 4), times, and ``CONDITIONS`` -> (B, 4); fixed weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.tokens, self.labels = nn.Linear(4, 4), nn.Embedding(9, 4), nn.Embedding(4, 4)

    def forward(self, x, t, mask, tokens, label, prompt, scale, shift):
        assert tuple(c.dtype for c in (mask, tokens, label, prompt, scale, shift)) == KINDS
        text = prompt.float().masked_fill(~mask[..., None], 0.0).sum(1)
        known = self.tokens(tokens).sum(1) + self.labels(label) + text
        return self.mix(x) * scale.float()[:, None] + known + (shift + 1e-3 * t)[:, None]


def values(n):
    """Conditions of ``n`` samples, as a caller has them."""
    rng = np.random.default_rng(5)
    return {
        "mask": rng.random((n, 5)) < 0.5,
        "tokens": rng.integers(0, 9, (n, 2)),
        "label": np.arange(n) % 4,
        "prompt": rng.standard_normal((n, 5, 4)).astype(np.float16),
        "scale": rng.standard_normal(n),
        "shift": rng.standard_normal(n),
    }
