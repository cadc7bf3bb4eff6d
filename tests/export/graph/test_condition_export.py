"""Conditions of every dtype and modules of every call form, from the module to a bundle's runs."""

import json
import logging

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from every_dtype import CONDITIONS, KINDS, PROMPT, Every, spec, values
from torch import nn

import revstep
from revstep import Condition, Engine
from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
from revstep.engine.errors import BundleError, ExportError
from revstep.export import compile_bundle, export_module
from revstep.schedules import VPSchedule
from suites.torch_host import torch_host_runtime


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """The module, and the path of its bundle, compiled."""
    module = Every().eval()
    path = tmp_path_factory.mktemp("conditions") / "every.revstep"
    export_module(module, spec(*CONDITIONS), path)
    compile_bundle(path, threads=1)
    return module, path


def by_hand(module, given):
    """The module itself, on its own tensors, as a function of x and t."""
    tensors = [
        torch.from_numpy(np.asarray(v)).to(k) for v, k in zip(given.values(), KINDS, strict=True)
    ]

    def network(x, t):
        with torch.no_grad():
            return module(torch.from_numpy(x), torch.from_numpy(t), *tensors).numpy()

    return network


def test_a_bundle_feeds_every_dtype_as_the_module_takes_it(every):
    module, path = every
    engine = revstep.load(path, device="cpu", threads=1)
    given = values(3)
    noise = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    run = engine.sample(noise=noise, conditions=given, steps=1, grid="trailing")
    alpha, sigma = VPSchedule().alpha_sigma(np.float64(999.0))
    x = (sigma * noise).astype(np.float32)  # the start of a run: sigma z
    eps = by_hand(module, given)(x, np.full(3, 999.0, np.float32))
    np.testing.assert_allclose(run.x, (x - sigma * eps) / alpha, rtol=2e-4, atol=1e-3)


def test_module_and_device_paths_agree_with_the_bundle(every):
    module, path = every
    form = spec(*CONDITIONS)
    call = {"seed": 0, "steps": 3, "conditions": values(3), "guidance": [1.0, 2.5, 0.5]}
    nulls = {"shift": 0.25}
    want = revstep.load(path, device="cpu", threads=1).sample(**call, null_conditions=nulls).x
    from_module = revstep.from_module(module, form, device="cpu")
    device = Engine(torch_host_runtime(TorchModuleDenoiser(module, form)))
    for engine in (from_module, device):
        got = engine.sample(**call, null_conditions=nulls).x
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_guidance_pulls_away_from_the_null_array(every):
    """uncond + g (cond - uncond), with the null prompt's array as the condition of uncond."""
    _, path = every
    engine = revstep.load(path, device="cpu", threads=1)
    given = values(2)
    nulls = {c.name: np.broadcast_to(c.filler, c.shape) for c in CONDITIONS if c.name != "shift"}
    nulls |= {"shift": given["shift"]}
    call = {"noise": np.ones((2, 4), np.float32), "steps": 1}
    guided = engine.sample(
        **call, conditions=given, null_conditions={"shift": given["shift"]}, guidance=3.0
    )
    cond, uncond = (engine.sample(**call, conditions=c).x for c in (given, nulls))
    # one DDIM step is affine in the network's output
    np.testing.assert_allclose(guided.x, uncond + 3.0 * (cond - uncond), rtol=1e-3, atol=1e-2)


def test_the_bundle_keeps_the_spec_and_the_limits_it_found(every):
    _, path = every
    bundle = revstep.Bundle.open(path)
    found = {c.name: c for c in bundle.spec.conditions}
    assert found["tokens"].limits == (0, 8)
    assert found["label"].limits is None
    for c in CONDITIONS:
        if c.name != "tokens":
            assert found[c.name] == c
    arrays = bundle.parity()
    assert {n: a.dtype.name for n, a in arrays.items() if n.startswith("cond.")} == {
        "cond.mask": "bool", "cond.tokens": "int32", "cond.label": "int64",
        "cond.prompt": "float32", "cond.scale": "float32", "cond.shift": "float32",
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["cond.prompt"][-1], PROMPT)


def test_a_large_null_array_is_kept_to_the_bit(tmp_path):
    class Net(nn.Module):
        def forward(self, x, t, prompt):
            return x + prompt.mean((1, 2))[:, None]

    null = np.random.default_rng(0).standard_normal((77, 64)).astype(np.float32)
    form = spec(Condition(name="prompt", shape=(77, 64), null=null))
    bundle = export_module(Net(), form, tmp_path / "x.revstep")
    assert bundle.spec == form
    np.testing.assert_array_equal(np.asarray(bundle.spec.conditions[0].null), null)
    manifest = json.loads((tmp_path / "x.revstep" / "manifest.json").read_text())
    assert len(json.dumps(manifest)) < null.nbytes * 4 / 3 + 10_000


class Ratio(nn.Module):
    """Takes lengths from 1, and an identifier from 1."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)

    def forward(self, x, t, length, robot):
        return x / torch.log(length + 1.0)[:, None] + self.table(robot - 1)


def test_a_users_examples_let_such_conditions_be_exported(tmp_path):
    plain = spec(Condition(name="length"), Condition(name="robot", dtype="int64"))
    with pytest.raises(ExportError, match=r"length, robot are made up.*Condition\(example=...\)"):
        export_module(Ratio(), plain, tmp_path / "x.revstep")
    form = spec(
        Condition(name="length", example=[3.0, 8.0, 21.0]),
        Condition(name="robot", dtype="int64", example=[1, 6]),
    )
    bundle = export_module(Ratio(), form, tmp_path / "x.revstep")
    arrays = bundle.parity()
    np.testing.assert_array_equal(arrays["cond.length"], np.resize(np.float32([3, 8, 21]), 8))
    np.testing.assert_array_equal(arrays["cond.robot"], np.resize([1, 6], 8))
    assert bundle.spec.conditions[1].limits == (1, 6)
    assert bundle.spec.conditions[0].example is None  # parity.npz has what was tried
    compile_bundle(tmp_path / "x.revstep", threads=1)
    engine = revstep.load(tmp_path / "x.revstep", device="cpu", threads=1)
    with pytest.raises(ValueError, match="'robot' holds 0; allowed: 1 to 6"):
        engine.sample(1, conditions={"length": 3.0, "robot": 0})
    given = {"length": [3.0, 4.0, 5.0], "robot": [1, 2, 6]}
    assert np.isfinite(engine.sample(conditions=given, steps=2, batch_size=2).x).all()


def test_a_module_that_takes_no_half_is_pointed_to_float32(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 4)

        def forward(self, x, t, prompt):
            return x + self.net(prompt)

    prompt = Condition(name="prompt", dtype="bfloat16", shape=(3,))
    with pytest.raises(ExportError, match="take prompt as bfloat16; dtype='float32' takes arrays"):
        export_module(Net(), spec(prompt), tmp_path / "x.revstep")
    # where its weights are of that half, it does, and what they become is what it gets
    export_module(Net().bfloat16(), spec(prompt), tmp_path / "x.revstep")
    entry = compile_bundle(tmp_path / "x.revstep", threads=1)
    assert entry.parity["forward"]["error"] < 5e-2  # the reference itself is in bfloat16


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 4)

    def forward(self, x, t, *, gain, x_self_cond=None):
        return {"noise": self.net(x) * gain[:, None] + 1e-3 * t[:, None], "features": x}


def test_export_takes_the_named_output_and_names_self_conditioning(tmp_path, caplog):
    form = spec(Condition(name="gain", null=1.0))
    with pytest.raises(ExportError, match=r"'noise' .*'features' .*output='noise'"):
        export_module(Several(), form, tmp_path / "x.revstep")
    caplog.clear()
    export_module(Several(), form, tmp_path / "x.revstep", output="noise")
    shown = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(shown) == 1
    assert "x_self_cond" in shown[0]
    compile_bundle(tmp_path / "x.revstep", threads=1)
    call = {"seed": 3, "steps": 2, "conditions": {"gain": [0.5, 2.0]}}
    got = revstep.load(tmp_path / "x.revstep", device="cpu", threads=1).sample(**call).x
    want = revstep.from_module(Several(), form, device="cpu", output="noise").sample(**call).x
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_an_input_that_the_module_needs_by_name_is_asked_for(tmp_path):
    with pytest.raises(ExportError, match=r"Several.forward needs gain by name"):
        export_module(Several(), spec(), tmp_path / "x.revstep", output="noise")
    with pytest.raises(TypeError, match="output"):
        export_module(Several(), spec(), tmp_path / "x.revstep", output=1.5)
    assert not (tmp_path / "x.revstep").exists()


def test_a_diffusers_output_needs_no_wrapper(tmp_path):
    class Net(nn.Module):
        """As diffusers' networks are: sample, timestep, the rest optional, an output object."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Linear(4, 4)

        def forward(self, sample, timestep, class_labels=None, return_dict=True):
            out = self.net(sample) + (0.1 * class_labels + 1e-3 * timestep)[:, None]
            return UNet2DOutput(sample=out) if return_dict else (out,)

    form = spec(Condition(name="class_labels", dtype="int64", classes=3, null=0))
    export_module(Net(), form, tmp_path / "x.revstep")
    compile_bundle(tmp_path / "x.revstep", threads=1)
    call = {"seed": 0, "steps": 2, "conditions": {"class_labels": [1, 2]}, "guidance": 2.0}
    got = revstep.load(tmp_path / "x.revstep", device="cpu", threads=1).sample(**call).x
    from_module = revstep.from_module(Net(), form, device="cpu", output="sample")
    np.testing.assert_allclose(got, from_module.sample(**call).x, rtol=1e-4, atol=1e-4)


def test_a_bundle_says_the_output_in_its_export_command(tmp_path):
    source = {"kind": "factory", "name": "mine:build", "output": "noise"}
    form = spec(Condition(name="gain", null=1.0))
    bundle = export_module(Several(), form, tmp_path / "x.revstep", output="noise", source=source)
    with pytest.raises(BundleError, match="export mine:build --module-output noise -o"):
        bundle.graph("fp16")


FACTORY = """
import torch
from revstep.engine.spec.schedule import VPSchedule
from revstep.engine.spec.denoiser import Condition, DenoiserSpec

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(9, 4)

    def forward(self, x, t, label, mask):
        return self.table(label[:, 0]) * mask.any(1)[:, None] + x, {"features": x}

def build():
    conditions = (
        Condition(name="label", dtype="int32", shape=(1,), null=0),
        Condition(name="mask", dtype="bool", shape=(3,), null=[True, False, False]),
    )
    spec = DenoiserSpec(
        shape=(4,), schedule=VPSchedule(), prediction="epsilon", conditions=conditions
    )
    torch.manual_seed(0)
    return Net().eval(), spec
"""


def test_the_command_line_exports_shows_and_samples_them(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from revstep.cli import app

    def cli(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    (tmp_path / "own_net.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    refused = cli("export", "own_net:build", "-o", "x.revstep")
    assert refused.exit_code == 2, refused.stderr
    assert "such as --module-output 0" in " ".join(refused.stderr.split())
    done = cli("export", "own_net:build", "-o", "x.revstep", "--module-output", "0")
    assert done.exit_code == 0, done.stderr
    assert cli("compile", "x.revstep").exit_code == 0
    shown = " ".join(cli("info", "x.revstep").stdout.split())
    assert "label 1 int32, 0 to 8, null 0" in shown
    assert "mask 3 bool, null array of 3 bool" in shown
    run = ("sample", "x.revstep", "--steps", "1", "--seed", "0")
    some = (*run, "--class", "0-2", "--condition", "mask=1,0,1", "-o", "some.npy")
    result = cli(*some)
    assert result.exit_code == 0, result.stderr
    engine = revstep.load("x.revstep", device="cpu")
    given = {"label": [0, 1, 2], "mask": [True, False, True]}
    want = engine.sample(seed=0, steps=1, conditions=given).x
    np.testing.assert_array_equal(np.load("some.npy"), want)
    for wrong, message in (
        ("mask=2,0,0", "holds 2"),
        ("label=9", "0 to 8"),
        ("label=0.5", "whole"),
    ):
        result = cli(*run, "--condition", wrong, "-o", "w.npy")
        assert result.exit_code != 0
        assert message in " ".join(result.stderr.split())
