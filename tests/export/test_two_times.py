"""Networks of two times: exported, and the same on every runtime; diffusers' AnyFlow among them."""

from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch
from toys import TWO_TIMES, build

import revstep
from revstep import DenoiserSpec, SecondTime, TimeInput
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.bundle.reader import Bundle
from revstep.engine.spec.sampler_choice import SamplerChoice
from revstep.export import compile_bundle, compile_kernels, export_diffusers, read_scheduler
from revstep.export.targets.options import BuildOptions, Profile
from revstep.kernels import columns as col
from revstep.kernels.gpu import aot
from revstep.samplers import FlowMap
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


@pytest.fixture(scope="module")
def anyflow(tmp_path_factory):
    """(diffusers' network, its bundle): a folder of two frames of 4 x 4 latents, exported."""
    diffusers = pytest.importorskip("diffusers", minversion="0.42.1")
    torch.manual_seed(0)
    net = diffusers.AnyFlowTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
        freq_dim=16, ffn_dim=32, num_layers=1, rope_max_seq_len=16,
    ).eval()  # fmt: skip
    folder = tmp_path_factory.mktemp("anyflow")
    net.save_pretrained(folder / "transformer")
    diffusers.FlowMapEulerDiscreteScheduler(shift=5.0).save_pretrained(folder / "scheduler")
    path = folder / "anyflow.revstep"
    export_diffusers(folder, path, size=(2, 4, 4), sequence_length=3)
    return net, path


def own_loop(net, z, text, steps):
    """The loop of diffusers 0.42.1's pipeline, on (B, frames, C, rows, columns)."""
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
def test_anyflows_folder_says_what_it_is(anyflow):
    spec = Bundle.open(anyflow[1]).spec
    assert (spec.shape, spec.prediction) == ((4, 2, 4, 4), "average_velocity")
    assert (spec.time.kind, spec.second_time) == ("thousand", SecondTime(kind="thousand"))
    assert spec.sampler == SamplerChoice("flow_map", compat="diffusers")
    at = [p.t for p in revstep.build_program(spec, "flow_map", 4).points]
    np.testing.assert_allclose(at, [1.0, 0.9375, 5 / 6, 0.625, 0.0], rtol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("steps", [1, 4])
def test_anyflow_gives_the_latents_of_diffusers_0_42_1s_own_loop(anyflow, backend, steps):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    net, path = anyflow
    rng = np.random.default_rng(steps)
    z = rng.standard_normal((2, 4, 2, 4, 4)).astype(np.float32)
    text = rng.standard_normal((2, 3, 8)).astype(np.float32)
    engine = revstep.load(path, backend=backend)
    got = engine.sample(2, steps=steps, noise=z, conditions={"encoder_hidden_states": text}).x
    want = own_loop(net, z.swapaxes(1, 2), text, steps).swapaxes(1, 2)
    np.testing.assert_allclose(got, want, atol=5e-6)


@pytest.mark.slow
@pytest.mark.tensorrt
def test_tensorrt_rtx_builds_anyflow(anyflow, copy_of):
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)
    path = copy_of(anyflow[1])
    options = BuildOptions(gpus=("sm_89",))
    entry = compile_bundle(path, target="tensorrt_rtx", batch=Profile(1, 2, 4), options=options)
    assert (path / entry.file).stat().st_size > 0


def test_a_flow_map_schedulers_config_is_read():
    pytest.importorskip("diffusers", minversion="0.42.1")
    read = read_scheduler({"_class_name": "FlowMapEulerDiscreteScheduler", "shift": 3.0})
    assert read.sampler == FlowMap()
    spec = DenoiserSpec(shape=(2,), time=TimeInput(kind=read.time_kind), **read.spec_fields)
    rows = revstep.build_program(spec, read.sampler, 2, compat="diffusers").rows
    assert rows[:2, col.TIME].tolist() == pytest.approx([1000.0, 750.0])
    assert rows[:2, col.TIME_2].tolist() == pytest.approx([750.0, 0.0])
