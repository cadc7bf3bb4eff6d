"""Stable Diffusion 1.5's U-Net at its true size, exported, compiled and run: what memory it takes.

A program: ``python true_size.py BUNDLE`` prints ``{"weights": bytes, "peak": bytes}``. The weights
are random, and the latents 8 x 8 instead of 64 x 64, which saves time and next to no memory.
"""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import torch

import revstep
from revstep.export import compile_bundle, export_module

SHAPE = (4, 8, 8)
TEXT = (77, 768)


def network():
    """The U-Net, filled where its memory is, so that it is there once."""
    import diffusers

    with torch.device("meta"):
        made = diffusers.UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=8, layers_per_block=2,
        )  # fmt: skip
    made = made.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.ndim > 1:
                value.normal_(0.0, 0.7 / math.sqrt(value[0].numel()), generator=generator)
            else:
                value.fill_("norm" in name and name.endswith("weight"))
    return made.eval()


class Called(torch.nn.Module):
    """(x, t, text) to the U-Net's output."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, t, text):
        return self.model(x, t, text).sample


def peak():
    """The most memory that this process has had, in bytes."""
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


def main(path):
    module = Called(network()).eval()
    weights = 4 * sum(p.numel() for p in module.parameters())
    spec = revstep.DenoiserSpec(
        shape=SHAPE, prediction="epsilon", time=revstep.TimeInput(fractions=True), batch=(1, 1),
        schedule=revstep.schedules.VPSchedule(betas="scaled_linear", beta_start=0.00085,
                                              beta_end=0.012),
        conditions=(revstep.Condition(name="text", shape=TEXT),),
    )  # fmt: skip
    export_module(module, spec, path)
    del module
    compile_bundle(path)
    engine = revstep.load(path)
    samples = engine.sample(1, steps=1, seed=0, conditions={"text": np.zeros(TEXT, np.float32)})
    assert np.isfinite(samples.x).all()
    sys.stdout.write(json.dumps({"weights": weights, "peak": peak()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
