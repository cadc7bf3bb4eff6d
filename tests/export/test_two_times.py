"""Networks of two times: exported, and the same on every runtime; diffusers' AnyFlow among them."""

from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from toys import TWO_TIMES, build

import revstep
from revstep import Condition, DenoiserSpec, SecondTime, TimeInput
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.bundle.reader import Bundle
from revstep.export import compile_bundle, compile_kernels, export_module
from revstep.export.targets.options import BuildOptions, Profile
from revstep.grids import ShiftedGrid
from revstep.kernels.gpu import aot
from revstep.schedules import FlowSchedule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RUN = {
    "n": 3, "sampler": "flow_map", "steps": 4, "seed": 1, "guidance": 2.0,
    "conditions": {"label": [0, 1, 2]},
}  # fmt: skip


def wanted():
    """What PyTorch gives in float32."""
    module, spec, _ = build("two times")
    return revstep.from_module(module, spec, device="cpu").sample(**RUN).x


def test_the_graph_and_the_reference_have_both_times(two_times_bundle):
    bundle = Bundle.open(two_times_bundle)
    assert bundle.spec == TWO_TIMES
    for precision in ("fp32", "fp16"):
        inputs = onnx.load(bundle.graph(precision), load_external_data=False).graph.input
        assert [value.name for value in inputs] == ["row", "t", "r", "label"]
        types = [value.type.tensor_type.elem_type for value in inputs]
        assert types == [1, 1, 1, 7]  # float32 but for the labels
    parity = bundle.parity()
    assert parity["second"].shape == parity["t"].shape == (8,)
    assert np.all(parity["second"] < parity["t"])
    assert len(np.unique(parity["t"] - parity["second"])) > 4
    assert {"edge.second", "ddim20.final"} <= set(parity)


@pytest.mark.parametrize(
    ("backend", "precision", "within"),
    [
        ("onnxruntime", "fp32", 2e-6), ("onnxruntime", "fp16", 1e-2),
        ("openvino", "fp32", 2e-6), ("openvino", "bf16", 5e-2),
    ],
)  # fmt: skip
def test_every_runtime_gives_what_pytorch_gives(two_times_bundle, backend, precision, within):
    if find_spec(backend) is None:  # an import of OpenVINO alone would report home
        pytest.skip(f"{backend} is not installed")
    try:
        engine = revstep.load(two_times_bundle, backend=backend, precision=precision)
    except revstep.errors.BackendError as error:
        if "no bf16 products" not in str(error):
            raise
        pytest.skip(str(error))
    assert np.abs(engine.sample(**RUN).x - wanted()).max() < within


@pytest.mark.parametrize(("precision", "within"), [("bf16", 5e-2), ("fp16", 1e-2)])
def test_a_live_module_keeps_both_times_in_float32(precision, within):
    """999 would be 1000 in bfloat16, and t - r another number."""
    module, spec, _ = build("two times")
    engine = revstep.from_module(module, spec, device="cpu", precision=precision)
    assert np.abs(engine.sample(**RUN).x - wanted()).max() < within


def test_nobody_has_to_name_the_sampler(two_times_bundle):
    engine = revstep.load(two_times_bundle, backend="onnxruntime")
    left_out = {name: value for name, value in RUN.items() if name != "sampler"}
    np.testing.assert_array_equal(engine.sample(**left_out).x, engine.sample(**RUN).x)


def test_requests_of_other_steps_share_calls_each_with_its_own_times(two_times_bundle):
    engine = revstep.load(two_times_bundle, backend="onnxruntime", reproducible=True)
    counts = (1, 2, 3, 5, 8)
    with revstep.Service(engine) as service:
        jobs = [service.submit(**{**RUN, "steps": n, "seed": n}) for n in counts]
        found = [job.result(60).x for job in jobs]
    for n, x in zip(counts, found, strict=True):
        np.testing.assert_array_equal(x, engine.sample(**{**RUN, "steps": n, "seed": n}).x)


@pytest.mark.slow
def test_a_bundle_is_compiled_for_a_cpu_and_checked_over_its_own_jumps(two_times_bundle, copy_of):
    path = copy_of(two_times_bundle)
    entries = compile_bundle(path, target="cpu", batch=1, seconds=0.5)
    assert all(set(e.parity) == {"forward", "edges", "ddim20"} for e in entries)
    assert np.abs(revstep.load(path).sample(**RUN).x - wanted()).max() < 2e-6


@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_rtx_builds_it_with_a_profile_of_both_times(two_times_bundle, copy_of, precision):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)
    path = copy_of(two_times_bundle)
    entry = compile_bundle(
        path, target="tensorrt_rtx", precision=precision, batch=Profile(1, 4, 8),
        options=BuildOptions(gpus=("sm_89",)),
    )  # fmt: skip
    assert (path / entry.file).stat().st_size > 0
    assert trt.__version__


def test_the_kernels_of_a_bundle_write_both_times(two_times_bundle, monkeypatch):
    pytest.importorskip("triton")
    asked = {}

    def write(folder, dtypes, elements, **options):
        asked.update(options)
        raise OSError("enough")

    monkeypatch.setattr(aot, "write_kernels", write)
    with pytest.raises(revstep.errors.CompileError, match="enough"):
        compile_kernels(two_times_bundle, gpus=("sm_90",))
    assert asked["two_times"]
    names = {v.name for v in aot.variants_for("float32", 6, learned=False, two_times=True)}
    assert "begin_step-two_times" in names
    assert "begin_step" not in names


def test_what_nobody_feeds_is_a_step_over_the_whole_schedule():
    """Spare rows and warm-ups call the network too, and log2 of no length would be infinite."""
    spec = DenoiserSpec(
        shape=(2,), schedule=FlowSchedule(), prediction="average_velocity",
        time=TimeInput(kind="unit"), second_time=SecondTime(kind="unit", of="length"),
    )  # fmt: skip
    assert NetworkBuffers.allocate(spec, 3).second.tolist() == [1.0, 1.0, 1.0]


class Rope(nn.Module):
    """The rotary table of one size, which ONNX has no form for making."""

    def __init__(self, rope, frames, rows, columns):
        super().__init__()
        layout = {"total_frames": frames, "full_frame_shape": (rows, columns)}
        table = rope(layout_cfg=layout, device=torch.device("cpu"))["query"]
        self.register_buffer("table", table)

    def forward(self, layout_cfg, device):
        return {"query": self.table, "key": self.table}


class AnyFlow(nn.Module):
    """diffusers' transformer, with one t and one r for all frames."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, t, r, text):
        t, r = (time[:, None].expand(-1, x.shape[1]) for time in (t, r))
        return self.net(x, t, r, text, return_dict=False)[0]


@pytest.fixture(scope="module")
def anyflow(tmp_path_factory):
    """(diffusers' network, its bundle): two frames of 4 x 4 latents."""
    diffusers = pytest.importorskip("diffusers", minversion="0.42.1")
    torch.manual_seed(0)
    net = diffusers.AnyFlowTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
        freq_dim=16, ffn_dim=32, num_layers=1, rope_max_seq_len=16,
    ).eval()  # fmt: skip
    net.rope = Rope(net.rope, 2, 2, 2)
    spec = DenoiserSpec(
        shape=(2, 4, 4, 4),
        schedule=FlowSchedule(),
        prediction="average_velocity",
        time=TimeInput(kind="thousand"),
        second_time=SecondTime(kind="thousand"),
        grid=ShiftedGrid(5.0),
        conditions=(Condition(name="text", shape=(3, 8), null=0.0),),
    )
    path = tmp_path_factory.mktemp("anyflow") / "anyflow.revstep"
    export_module(AnyFlow(net), spec, path)
    return net, path


def own_loop(net, z, text, steps):
    """The loop of diffusers 0.42.1's pipeline: its scheduler and its network."""
    from diffusers import FlowMapEulerDiscreteScheduler

    scheduler = FlowMapEulerDiscreteScheduler(shift=5.0)
    scheduler.set_timesteps(steps)
    x, rows = torch.from_numpy(z), z.shape[:2]
    for i, t in enumerate(scheduler.timesteps):
        r = scheduler.sigmas[i + 1] * scheduler.config.num_train_timesteps
        with torch.no_grad():
            times = (time.float().expand(rows) for time in (t, r))
            m = net(x, *times, torch.from_numpy(text), return_dict=False)[0]
        x = scheduler.step(m, t, x).prev_sample
    return x.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("steps", [1, 4])
def test_anyflow_gives_the_latents_of_diffusers_0_42_1s_own_loop(anyflow, backend, steps):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    net, path = anyflow
    rng = np.random.default_rng(steps)
    z = rng.standard_normal((2, 2, 4, 4, 4)).astype(np.float32)
    text = rng.standard_normal((2, 3, 8)).astype(np.float32)
    engine = revstep.load(path, backend=backend)
    got = engine.sample(2, steps=steps, noise=z, conditions={"text": text}).x
    np.testing.assert_allclose(got, own_loop(net, z, text, steps), atol=5e-6)
