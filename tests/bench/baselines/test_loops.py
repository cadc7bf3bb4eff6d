"""Loops by hand: the same work as the engine's, in every runtime."""

import dataclasses

import numpy as np
import pytest
import toys

from revstep.bench.baselines import torch_loop
from revstep.bench.baselines.onnxruntime import BoundSession
from revstep.bench.baselines.registry import make_baseline
from revstep.bench.baselines.same_work import OurRun
from revstep.bench.baselines.steps import steps_of
from revstep.bench.baselines.turns import turns_of
from revstep.bench.measure.cell import Cell
from revstep.errors import ArgumentError, BackendError

pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

KINDS = {"image": "image_bundle", "policy": "policy_bundle", "tabular": "tabular_bundle",
         "two times": "two_times_bundle"}  # fmt: skip
RUNS = [
    ("image", {"sampler": "ddpm", "options": {"variance": "learned"}, "guidance": 3.0}),
    ("image", {"sampler": "dpmpp_3m"}),
    ("image", {"sampler": "sa_solver", "guidance": 1.5}),
    ("policy", {"sampler": "euler_ancestral", "guidance": 2.0}),
    ("policy", {"sampler": "dpm2"}),
    ("policy", {"sampler": "unipc", "steps": 7}),
    ("tabular", {"sampler": "flow_heun", "more": {"final": "first"}}),
    ("tabular", {"sampler": "euler", "batch": 5}),
    ("two times", {}),
]
RUNTIMES = ("onnxruntime", "openvino", "torch-eager")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("kind", "fields"), RUNS)
def test_a_loop_by_hand_does_the_engines_work(given_of, request, runtime, kind, fields):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    module, spec, _ = toys.build(kind)
    given = given_of(request.getfixturevalue(KINDS[kind]), module, **fields)
    baseline = make_baseline(runtime, given, None)
    ours = OurRun(given)
    found = ours.check(runtime, baseline)
    assert len(found.steps) == given.program.length
    assert found.largest < ours.bound / 20
    drawn = baseline.sample(1)
    assert drawn.shape == (given.n, *spec.shape)
    assert not np.array_equal(drawn, baseline.sample(2))
    assert np.array_equal(drawn, baseline.sample(1))


@pytest.mark.slow
def test_a_compiled_module_does_the_engines_work_and_is_compiled_once(given_of, tabular_bundle):
    from torch._dynamo.utils import counters

    module = toys.build("tabular")[0]
    given = given_of(tabular_bundle, module, sampler="flow_heun")
    counters.clear()
    places = []
    for _ in range(2):  # as it is opened again
        baseline = make_baseline("torch-compile", given, None)
        assert OurRun(given).check("torch-compile", baseline).largest < 1e-5
        places.append([weight.data_ptr() for weight in module.parameters()])
    assert "torch.compile" in baseline.title
    assert not set(places[0]) & set(places[1])
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_are_elsewhere_and_the_same_when_they_are_opened_again(
    given_of, tabular_bundle, precision
):
    module = toys.build("tabular")[0]
    given = dataclasses.replace(given_of(tabular_bundle, module), precision=precision)

    def held(network):
        return [(each.data_ptr(), each.detach().clone()) for each in network.parameters()]

    first = torch_loop.network_of(given)
    before = held(first)
    after = held(torch_loop.network_of(given))  # the first lives
    assert not {place for place, _ in before} & {place for place, _ in after}
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(before, after, strict=True))


def test_a_session_bound_to_tensors_does_the_engines_work(given_of, image_bundle):
    from revstep.engine.backends.onnx_cpu import onnx_session

    given = given_of(image_bundle, sampler="ddpm", guidance=2.0)
    session = onnx_session(given.work.bundle.graph("fp32"), threads=1)
    network = BoundSession(given, session, torch.device("cpu"))
    loop = torch_loop.TorchLoop(given, network, "bound")
    assert OurRun(given).check("bound", loop).largest < 1e-4


def test_steps_have_the_terms_that_are_not_zero(given_of, tabular_bundle, image_bundle):
    (first, *_) = steps_of(given_of(tabular_bundle, sampler="euler").program)
    assert [name for _, name in first.update] == ["x", "m"]
    assert first.estimate is None
    assert not first.draws
    clipped = steps_of(given_of(image_bundle, sampler="ddpm").program)
    assert clipped[0].clip == (-1.0, 1.0)
    assert clipped[0].draws


def test_torch_keeps_its_threads(given_of, tabular_bundle):
    given = given_of(tabular_bundle, toys.build("tabular")[0])
    before = torch.get_num_threads()
    seen = []
    network = toys.build("tabular")[0]

    def watched(*inputs):
        seen.append(torch.get_num_threads())
        return network(*inputs)

    other = dataclasses.replace(given, threads=before + 1)
    torch_loop.TorchLoop(other, watched, "watched").sample(0)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_a_runtime_without_the_precision_is_refused_by_name(given_of, tabular_bundle):
    pytest.importorskip("openvino")
    given = given_of(tabular_bundle)
    with pytest.raises(BackendError, match=r"ONNX Runtime has no bf16 .* leave it out of --vs"):
        make_baseline("onnxruntime", dataclasses.replace(given, precision="bf16"), None)
    with pytest.raises(BackendError, match="OpenVINO has no fp16"):
        make_baseline("openvino", dataclasses.replace(given, precision="fp16"), None)
    with pytest.raises(BackendError, match="'openvino' runs on the CPU"):
        make_baseline("openvino", dataclasses.replace(given, device="cuda:0"), None)


def test_more_samples_than_a_call_takes_are_refused():
    cell = Cell(batch=9, guidance=2.0)
    with pytest.raises(ArgumentError, match="batch 9 has 18 rows, and the bundle takes 1 to 16"):
        turns_of(cell, ["onnxruntime"], toys.POLICY, None)
    turns_of(cell, [], toys.POLICY, None)
