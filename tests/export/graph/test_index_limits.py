"""The range of integer conditions that a module takes, found at export."""

import dataclasses

import numpy as np
import pytest
import torch
from specs import spec_of
from torch import nn

import revstep
from revstep import Condition
from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.errors import ExportError
from revstep.errors import BackendError
from revstep.export import compile_bundle, export_module

ROWS = 10
LEAST = int(np.iinfo(np.int64).min)


class Net(nn.Module):
    """Mixes ``use(self, index)`` (B, 8) into x."""

    def __init__(self, use):
        super().__init__()
        torch.manual_seed(0)
        self.use = use
        self.table, self.other = nn.Embedding(ROWS, 8), nn.Embedding(5 * ROWS, 8)
        self.register_buffer("rows", torch.randn(ROWS, 8))

    def forward(self, x, t, index):
        return x + self.use(self, index) + 1e-3 * t[:, None]


def spec(**fields):
    index = Condition(**{"name": "index", "dtype": "int64", "shape": (3,), "null": 1, **fields})
    return spec_of(shape=(8,), conditions=(index,))


def padded(m, i):
    return (m.table(i.clamp(min=0)) * (i >= 0)[..., None]).mean(1)


CASES = {
    "embedding": (lambda m, i: m.table(i).mean(1), (0, 9)),
    "through casts and shapes": (
        lambda m, i: m.table(i.float().long()[:, None].reshape(-1, 3)).mean(1),
        (0, 9),
    ),
    "beside others": (lambda m, i: m.table(torch.cat([0 * i[:, :1], i], 1)).mean(1), (0, 9)),
    "from 1": (lambda m, i: m.table(i - 1).mean(1), (1, 10)),
    "from -1": (lambda m, i: m.table(1 + i).mean(1), (-1, 8)),
    "counted from the end too": (lambda m, i: m.rows[i].mean(1), (-10, 9)),
    "one-hot": (lambda m, i: nn.functional.one_hot(i, ROWS).float().mean(1) @ m.rows, (0, 9)),
    "two tables": (lambda m, i: (m.table(i) + m.other(i)).mean(1), (0, 9)),
    "padding of -1": (padded, (LEAST, 9)),
    "clamped": (lambda m, i: m.table(i.clamp(0, 9)).mean(1), None),
    "wrapped round": (lambda m, i: m.table(i % ROWS).mean(1), None),
    "chosen by a mask": (lambda m, i: m.table(torch.where(i < 0, 9, i)).mean(1), None),
    "one element used": (lambda m, i: m.table(i[:, 1]), None),
    "a number": (lambda m, i: i.float().mean(1, keepdim=True) / 9, None),
    "a table an element": (
        lambda m, i: m.table(i[:, 0]) + m.other(i[:, 1]) + m.table(i[:, 2]),
        (0, 49),  # what no element takes is refused; the rest is ONNX Runtime's
    ),
}


class All(nn.Module):
    """All cases at once, a condition each: an export takes seconds."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(Net(use) for use, _ in CASES.values())

    def forward(self, x, t, *indices):
        return sum(part(x, t, index) for part, index in zip(self.parts, indices, strict=True))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Case -> its condition in the bundle."""
    (plain,) = spec().conditions
    named = tuple(dataclasses.replace(plain, name=f"c{i}") for i in range(len(CASES)))
    path = tmp_path_factory.mktemp("limits") / "x.revstep"
    bundle = export_module(All(), dataclasses.replace(spec(), conditions=named), path)
    assert [dataclasses.replace(c, limits=None) for c in bundle.spec.conditions] == list(named)
    return dict(zip(CASES, bundle.spec.conditions, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_bundle_takes_what_the_module_takes(case, found):
    assert found[case].limits == CASES[case][1]


def loaded(use, path, **fields):
    export_module(Net(use).eval(), spec(**fields), path)
    compile_bundle(path, threads=1)
    return revstep.load(path, device="cpu", threads=1)


def test_what_the_graph_would_read_elsewhere_is_refused_by_name(tmp_path):
    engine = loaded(CASES["embedding"][0], tmp_path / "x.revstep")
    for value in (-1, 10):
        with pytest.raises(ValueError, match=f"condition 'index' holds {value}; allowed: 0 to 9"):
            engine.sample(1, steps=2, conditions={"index": [[0, value, 3]]})


def test_padding_goes_through_and_gives_what_the_module_gives(tmp_path):
    engine = loaded(padded, tmp_path / "x.revstep")
    call = {"seed": 0, "steps": 2, "conditions": {"index": [[3, -1, -1], [9, 0, -100]]}}
    want = revstep.from_module(Net(padded).eval(), spec(), device="cpu").sample(**call).x
    np.testing.assert_allclose(engine.sample(**call).x, want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="'index' holds 10"):
        engine.sample(1, steps=1, conditions={"index": [0, 10, -1]})


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_number_a_sample_is_limited(shape, tmp_path):
    bundle = export_module(
        Net(lambda m, i: m.table(i.reshape(-1, 1)[:, 0])), spec(shape=shape), tmp_path / "x.revstep"
    )
    assert bundle.spec.conditions[0].limits == (0, 9)


@pytest.mark.parametrize("fields", [{"classes": 11}, {"limits": (0, 10)}])
def test_a_spec_that_allows_more_than_the_module_takes_is_refused(fields, tmp_path):
    with pytest.raises(ExportError, match=r"'index' allows 10 .*the module fails"):
        export_module(Net(CASES["embedding"][0]), spec(**fields), tmp_path / "x.revstep")
    assert not (tmp_path / "x.revstep").exists()


def test_a_spec_may_allow_what_one_element_takes(tmp_path):
    use = CASES["a table an element"][0]
    form = spec(classes=50, example=[3, 40, 9])
    assert export_module(Net(use), form, tmp_path / "x.revstep").spec == form


def test_a_users_own_limits_stay(tmp_path):
    bundle = export_module(Net(CASES["embedding"][0]), spec(limits=(1, 4)), tmp_path / "x.revstep")
    assert bundle.spec == spec(limits=(1, 4))


def test_a_failed_run_names_the_conditions_that_nothing_is_known_of(tmp_path):
    engine = loaded(CASES["chosen by a mask"][0], tmp_path / "x.revstep")
    with pytest.raises(BackendError, match=r"Gather.*condition 'index'.*Condition\(limits="):
        engine.sample(1, steps=1, conditions={"index": [0, 10, 0]})


def test_a_failure_of_the_session_is_ours_where_all_is_known(tmp_path):
    path = tmp_path / "x.revstep"
    export_module(Net(CASES["embedding"][0]), spec(), path)
    form = spec(limits=(0, 99))
    from revstep.engine.backends.protocol import NetworkBuffers

    buffers = NetworkBuffers.allocate(form, 1)
    call = OrtDenoiser(path / "denoiser.fp32.onnx", form, threads=1).bind(buffers)
    buffers.conditions["index"][:] = 50
    with pytest.raises(BackendError, match="ONNX Runtime failed") as caught:
        call()
    assert "limits" not in str(caught.value)
