"""TensorRT-RTX builds the networks that people sample: real exports, fp32, fp16, any batch."""

import dataclasses

import diffusers
import numpy as np
import pytest
import torch
from torch import nn

from revstep.engine.bundle.reader import Bundle
from revstep.engine.spec.denoiser import Condition, DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import VPSchedule
from revstep.export import compile_bundle, export_module
from revstep.export.targets.options import BuildOptions, Profile

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)

pytestmark = pytest.mark.tensorrt

ADA = BuildOptions(gpus=("sm_89",))


class DdpmUnet(nn.Module):
    """google/ddpm-cifar10-32's configuration, random weights: 35.7 M parameters."""

    def __init__(self):
        super().__init__()
        self.net = diffusers.UNet2DModel(
            sample_size=32, in_channels=3, out_channels=3, layers_per_block=2,
            block_out_channels=(128, 256, 256, 256), attention_head_dim=None,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
        )  # fmt: skip

    def forward(self, x, t):
        return self.net(x, t, return_dict=False)[0]


class SmallDit(nn.Module):
    """diffusers' DiT, learned variance: 8 channels out of 4."""

    def __init__(self):
        super().__init__()
        self.net = diffusers.DiTTransformer2DModel(
            num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=8,
            num_layers=3, sample_size=16, patch_size=2, num_embeds_ada_norm=1000,
        )  # fmt: skip

    def forward(self, x, t, label):
        out = self.net(x, timestep=t.long(), class_labels=label, return_dict=False)
        return out[0]


class Block1d(nn.Module):
    """Two convolutions over time, scaled and shifted by the condition."""

    def __init__(self, inside, outside, context):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv1d(inside, outside, 5, padding=2), nn.GroupNorm(8, outside), nn.Mish()
        )
        self.second = nn.Sequential(
            nn.Conv1d(outside, outside, 5, padding=2), nn.GroupNorm(8, outside), nn.Mish()
        )
        self.film = nn.Sequential(nn.Mish(), nn.Linear(context, 2 * outside))
        self.skip = nn.Conv1d(inside, outside, 1)

    def forward(self, x, context):
        scale, shift = self.film(context)[:, :, None].chunk(2, dim=1)
        return self.second(self.first(x) * scale + shift) + self.skip(x)


class PolicyUnet(nn.Module):
    """The 1-D conditional U-Net of diffusion policies (Chi et al., 2023), small."""

    def __init__(self, actions=2, observation=20, widths=(64, 128)):
        super().__init__()
        context = 64 + observation
        self.time = nn.Sequential(nn.Linear(64, 256), nn.Mish(), nn.Linear(256, 64))
        self.down = nn.ModuleList()
        inside = actions
        for width in widths:
            self.down.append(Block1d(inside, width, context))
            inside = width
        self.shrink = nn.Conv1d(widths[0], widths[0], 3, stride=2, padding=1)
        self.middle = Block1d(inside, inside, context)
        self.grow = nn.ConvTranspose1d(inside, inside, 4, stride=2, padding=1)
        self.up = Block1d(inside + widths[0], widths[0], context)
        self.last = nn.Conv1d(widths[0], actions, 1)

    def forward(self, x, t, observation):
        rates = torch.exp(-torch.arange(32, device=t.device) * (9.21 / 31))
        angles = t.float()[:, None] * rates
        wave = torch.cat([angles.sin(), angles.cos()], dim=-1).to(observation.dtype)
        context = torch.cat([self.time(wave), observation], dim=-1)
        first = self.down[0](x.transpose(1, 2), context)
        deep = self.middle(self.down[1](self.shrink(first), context), context)
        return self.last(self.up(torch.cat([self.grow(deep), first], 1), context)).transpose(1, 2)


NETWORKS = {
    "ddpm-unet": (DdpmUnet, DenoiserSpec(
        shape=(3, 32, 32), schedule=VPSchedule(), prediction="epsilon", batch=(1, 64),
    )),
    "dit": (SmallDit, DenoiserSpec(
        shape=(4, 16, 16), schedule=VPSchedule(), prediction="epsilon", learned_variance=True,
        conditions=(Condition(name="label", dtype="int64", null=1000, classes=1001),),
        batch=(1, 64),
    )),
    "policy-unet": (PolicyUnet, DenoiserSpec(
        shape=(16, 2), schedule=VPSchedule(steps=100, betas="squaredcos_cap_v2"),
        prediction="epsilon", name="actions", time=TimeInput(name="k"),
        conditions=(Condition(name="observation", shape=(20,), null=0.0),), batch=(1, 64),
    )),
}  # fmt: skip
MANY = 1 << 20  # bytes
PARAMETERS = {"ddpm-unet": 35_746_307}


LARGE = pytest.param("ddpm-unet", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[LARGE, "dit", "policy-unet"])
def exported(request, tmp_path_factory):
    make, spec = NETWORKS[request.param]
    torch.manual_seed(3)
    module = make().eval()
    with torch.no_grad():  # what starts at zero would hide half of the network
        for p in module.parameters():
            if not p.any():
                p.normal_(std=0.02)
    count = sum(p.numel() for p in module.parameters())
    assert count == PARAMETERS.get(request.param, count)
    path = tmp_path_factory.mktemp("networks") / f"{request.param}.revstep"
    export_module(module, spec, path, precisions=("fp32", "fp16", "bf16"))
    return path


def test_static_and_dynamic_plans_of_both_precisions(exported):
    check(exported)


def test_bf16_plans_are_built(exported):
    entry = compile_bundle(
        exported, target="tensorrt_rtx", precision="bf16", batch=Profile(1, 8, 64), options=ADA
    )
    assert (exported / entry.file).is_file()


def test_the_bundled_denoiser(demo_bundle, copy_of):
    check(copy_of(demo_bundle))


def check(path):
    """Static and dynamic plans in fp32 and fp16; with many weights half of them are smaller."""
    profiles = (1, 8, Profile(1, 8, 64))
    sizes = {}
    for precision in ("fp32", "fp16"):
        for batch in profiles:
            entry = compile_bundle(
                path, target="tensorrt_rtx", precision=precision, batch=batch, options=ADA
            )
            assert entry.parity == "not checked on this machine"
            sizes[precision, batch] = (path / entry.file).stat().st_size
    bundle = Bundle.open(path)
    assert len({e.key for e in bundle.compiled if e.precision != "bf16"}) == 6
    weights = sum(
        (path / bundle.manifest["graphs"][p]).stat().st_size * (1 if p == "fp32" else -1)
        for p in ("fp32", "fp16")
    )
    for batch in profiles if weights > MANY else ():  # a plan holds kernels too, of both types
        saved = sizes["fp32", batch] - sizes["fp16", batch]
        assert saved > weights / 4, batch


def test_one_plan_for_several_gpus(demo_bundle, copy_of):
    path = copy_of(demo_bundle)
    entry = compile_bundle(path, target="tensorrt_rtx", precision="fp16", batch=8)
    assert entry.device.split(",")[:3] == ["sm_80", "sm_86", "sm_89"]
    one = compile_bundle(path, target="tensorrt_rtx", precision="fp16", batch=8, options=ADA)
    assert dataclasses.replace(one, key=entry.key, device=entry.device, file=entry.file) == entry
    assert (path / entry.file).is_file()
    assert (path / one.file).is_file()


def test_conditions_of_every_dtype_build_as_the_spec_has_them(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(9, 4)

        def forward(self, x, t, mask, tokens, prompt, scale):
            text = self.table(tokens) + prompt.float()[:, None]
            kept = text.masked_fill(~mask[..., None], 0.0).sum(1)
            return x * scale.float()[:, None] + kept + 1e-3 * t[:, None]

    conditions = (
        Condition(name="mask", dtype="bool", shape=(3,), null=True),
        Condition(name="tokens", dtype="int32", shape=(3,), null=0),
        Condition(name="prompt", dtype="float16", shape=(4,), null=np.arange(4)),
        Condition(name="scale", dtype="bfloat16", null=1.0),
    )
    spec = DenoiserSpec(
        shape=(4,), schedule=VPSchedule(), prediction="epsilon", conditions=conditions
    )
    path = tmp_path / "every.revstep"
    export_module(Net().eval(), spec, path)
    entry = compile_bundle(path, target="tensorrt_rtx", batch=Profile(1, 2, 8), options=ADA)
    assert Bundle.open(path).compiled == (entry,)
