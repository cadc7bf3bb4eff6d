"""Whatever won, its samples are fp32 ONNX Runtime's to within the parity bounds, and hold still.

Each network is compiled for real, and each of its candidates then takes a turn as the winner.
"""

import dataclasses
import itertools

import numpy as np
import pytest
from damage import edit_manifest
from toys import build

import revstep
from revstep.engine.bundle.reader import Bundle
from revstep.engine.system.machine import has_bf16
from revstep.export import compile_bundle, export_module
from revstep.export.parity.bounds import BOUNDS, relative_error
from revstep.export.targets.cpu.plan import installed

pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

SEEDS = (0, 7, 2**40)


class MishToy(torch.nn.Module):
    """A 1-D network with all that the rewrites look for."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv1d(2, 16, 3, padding=1)
        self.norm = torch.nn.GroupNorm(4, 16)
        self.down = torch.nn.Conv1d(16, 16, 3, stride=2, padding=1)
        self.up = torch.nn.ConvTranspose1d(16, 2, 4, stride=2, padding=1)

    def forward(self, x, t, observation):
        h = self.first(x.transpose(1, 2)) + observation.mean(-1)[:, None, None] + t[:, None, None]
        h = torch.nn.functional.mish(self.norm(h))
        return self.up(torch.nn.functional.mish(self.down(h))).transpose(1, 2)


def exported(kind, path):
    if kind == "mish":
        torch.manual_seed(3)
        _, spec, _ = build("policy")
        export_module(MishToy().eval(), spec, path)
    else:
        module, spec, _ = build(kind)
        export_module(module, dataclasses.replace(spec, decoder=None), path)
    return path


def conditions(spec, rows):
    """Of those samples of an endless batch."""
    rng = np.random.default_rng(1)
    return {
        c.name: (
            rng.integers(0, c.classes, 8) if c.classes else rng.standard_normal((8, *c.shape))
        )[rows]
        for c in spec.conditions
    } or None


def samples(engine, n, seed):
    given = conditions(engine.spec, range(n))
    return engine.sample(n, steps=20, seed=seed, conditions=given).x


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("policy", "image", "tabular")]


@pytest.fixture(scope="module", params=["mish", *SLOW])
def compiled(request, tmp_path_factory):
    """(the bundle, its winners): compiled for 1 and 4 rows, bf16 too where there is any."""
    path = exported(request.param, tmp_path_factory.mktemp(request.param) / "x.revstep")
    return path, compile_bundle(
        path, target="cpu", precision="auto", batch=(1, 4), seconds=0.5, threads=None
    )


def bound(precision):
    """Of a whole run: both are as far from PyTorch's as their precisions allow."""
    return BOUNDS[precision].ddim20 + BOUNDS["fp32"].ddim20


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("precision", [None, "fp32", "bf16"])
def test_samples_are_those_of_the_default(compiled, precision, threads):
    path, winners = compiled
    if precision == "bf16" and not any(e.precision == "bf16" for e in winners):
        pytest.skip("nothing in bf16 won")
    default = revstep.load(path, device="cpu", backend="onnxruntime", threads=1)
    engine = revstep.load(path, device="cpu", precision=precision, threads=threads)
    assert "chosen" in engine.describe()
    used = "bf16" if "bf16" in engine.describe()["precision"] else "fp32"
    for n, seed in itertools.product((1, 3, 6), SEEDS):
        got, want = samples(engine, n, seed), samples(default, n, seed)
        assert relative_error(got, want, rms=True) <= bound(used)


@pytest.mark.parametrize("precision", [None, "fp32"])
def test_the_same_bits_alone_and_in_company(compiled, precision):
    path, _ = compiled
    engine = revstep.load(path, device="cpu", precision=precision, reproducible=True)
    whole = samples(engine, 5, 11)
    for k in range(5):
        given = conditions(engine.spec, [k])
        got = engine.sample(1, steps=20, seed=11 + k, conditions=given).x[0]
        np.testing.assert_array_equal(got, whole[k])


def test_every_candidate_that_passed_would_have_held(compiled):
    path, winners = compiled
    passed = [
        (c, e) for e in winners for c in e.choice.candidates
        if c["status"] in ("chosen", "tied", "slower") and "ddim20" in c.get("parity", {})
        and (not c["rewrites"] or list(e.choice.rewrites) == c["rewrites"])
    ]  # fmt: skip
    default = revstep.load(path, device="cpu", backend="onnxruntime", threads=1)
    want = samples(default, 3, 5)
    before = Bundle.open(path).manifest["engines"]
    for candidate, entry in passed:
        one = dataclasses.replace(
            entry,
            runtime=candidate["runtime"], version=candidate["version"],
            precision=candidate["precision"], file=entry.file if candidate["rewrites"] else None,
            choice=dataclasses.replace(
                entry.choice, threads=candidate["threads"], rewrites=tuple(candidate["rewrites"])
            ),
        ).to_dict()  # fmt: skip
        edit_manifest(path, lambda m, one=one: m.update(engines=[one]))
        engine = revstep.load(path, device="cpu")
        (runs,) = engine.describe()["chosen"]
        assert (runs["backend"], runs["threads"]) == (candidate["runtime"], candidate["threads"])
        assert relative_error(samples(engine, 3, 5), want, rms=True) <= bound(one["precision"])
    edit_manifest(path, lambda m: m.update(engines=before))


def test_all_that_is_installed_took_part(compiled):
    _, winners = compiled
    best = {e.batch[1]: e for e in winners}.values()  # of each number of rows the last: the fastest
    tried = {(c["runtime"], c["precision"]) for e in best for c in e.choice.candidates}
    assert {(runtime, "fp32") for runtime in installed()} <= tried
    if "openvino" in installed() and has_bf16():
        assert ("openvino", "bf16") in tried
