"""ONNX files of many forms as bundles, beside what they compute in numpy."""

import numpy as np
import onnx
import pytest
from onnx_files import network, write_denoiser

import revstep
from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BundleError, ExportError
from revstep.export import BuildOptions, compile_bundle, export_onnx

VE = {"kind": "ve", "sigma_min": 0.01, "sigma_max": 20.0}
SPEC = {
    "prediction": "sample",
    "schedule": VE,
    "time": {"kind": "sigma", "fractions": True},
    "inputs": {"state": "noisy", "time": "sigma"},
}


def spec(**changes):
    return {**SPEC, **changes}


def names(**inputs):
    return {"inputs": {**SPEC["inputs"], **inputs}}


def made(tmp_path, values, precisions=("fp32",), **form):
    file = write_denoiser(tmp_path / "model.onnx", **form)
    return export_onnx(file, values, tmp_path / "x.revstep", precisions=precisions)


def run(bundle, rows=3, precision="fp32", **given):
    """What the bundle's graph gives for random inputs, beside the network in numpy."""
    spec = bundle.spec
    rows = min(rows, spec.batch[1])
    rng = np.random.default_rng(5)
    buffers = NetworkBuffers.allocate(spec, rows)
    buffers.x[:] = rng.standard_normal(buffers.x.shape)
    buffers.t[:] = given.pop("t", np.linspace(0.5, 18.0, rows))
    conditions = {}
    for name, buffer in buffers.conditions.items():
        buffer[:] = given.get(name, rng.standard_normal(buffer.shape))
        conditions[name] = buffer
    OrtDenoiser(bundle.graph(precision), spec, threads=1).bind(buffers)()
    return buffers, conditions


def agrees(bundle, atol=2e-6, time=lambda t: t, sign=1.0, **given):
    buffers, conditions = run(bundle, **given)
    want = sign * network(buffers.x, time(buffers.t), **conditions)
    np.testing.assert_allclose(buffers.out, want, atol=atol)


def test_a_file_becomes_a_bundle_that_computes_what_it_computes(tmp_path):
    bundle = made(tmp_path, SPEC)
    assert bundle.spec.shape == (2, 4, 4)
    assert (bundle.spec.name, bundle.spec.time.name) == ("noisy", "sigma")
    assert bundle.spec.batch == (1, 64)
    agrees(bundle)
    parity = bundle.parity()
    np.testing.assert_allclose(parity["out"], network(parity["x"], parity["t"]), atol=2e-6)
    assert revstep.load(bundle.path).sample(2, steps=4, seed=0).x.shape == (2, 2, 4, 4)


def test_where_it_comes_from_is_in_the_manifest(tmp_path):
    bundle = made(tmp_path, SPEC)
    origin = bundle.manifest["provenance"]
    assert origin["source"]["kind"] == "onnx"
    assert origin["source"]["name"] == "model.onnx"
    assert origin["source"]["producer"] == "tests 1"
    assert origin["names"] == {"inputs": {"state": "noisy", "time": "sigma"}}
    assert {"onnx", "onnxruntime"} <= set(origin["tools"])
    with pytest.raises(BundleError, match=r"revstep export --onnx model.onnx --spec"):
        bundle.graph("fp16")


@pytest.mark.parametrize(
    ("rows", "time_shape", "baked"),
    [
        ("B", ("B",), (1, 64)),
        ("B", ("B", 1), (1, 64)),
        ("B", ("B", 1, 1, 1), (1, 64)),
        ("B", ("other",), (1, 64)),
        ("B", (), (1, 1)),
        ("B", (1,), (1, 1)),
        ("B", (1, 1), (1, 1)),
        (1, (1,), (1, 1)),
        (1, (1, 1), (1, 1)),
        (1, (), (1, 1)),
        (3, (3,), (3, 3)),
        (None, (), (1, 1)),
        (None, (1,), (1, 1)),
    ],
)
def test_times_and_batches_of_every_shape(tmp_path, rows, time_shape, baked):
    """Rows that only the inputs fix are freed, and one time for all is spread over them."""
    free = rows == "B" and "B" in time_shape
    for fixed in (False, True):
        folder = tmp_path / str(fixed)
        folder.mkdir()
        form = {"rows": rows, "time_shape": time_shape, "baked": fixed and baked != (1, 64)}
        bundle = made(folder, spec(shape=[2, 4, 4]), **form)
        assert bundle.spec.batch == (baked if fixed or rows is None or free else (1, 64))
        agrees(bundle)
        assert np.isfinite(revstep.load(bundle.path).sample(2, steps=3, seed=4).x).all()


def test_a_batch_that_is_asked_for_stays(tmp_path):
    fixed = {"rows": 3, "time_shape": (3,)}
    assert made(tmp_path, spec(batch=[3, 3]), **fixed).spec.batch == (3, 3)
    (tmp_path / "free").mkdir()
    assert made(tmp_path / "free", spec(batch=[2, 8]), **fixed).spec.batch == (2, 8)


def test_guided_samples_are_the_same_whatever_rows_a_call_takes(tmp_path):
    label = {"name": "label", "classes": 5, "null": 4}
    values = spec(shape=[2, 4, 4], conditions=[label], sampler="heun")
    samples = []
    for rows, time_shape, baked in (
        ("B", ("B",), False), ("B", (), False), (1, (1,), False), (3, (3,), True),
    ):  # fmt: skip
        folder = tmp_path / str(len(samples))
        folder.mkdir()
        form = {"rows": rows, "time_shape": time_shape, "baked": baked, "label_shape": (rows,)}
        bundle = made(folder, values, label="label", **form)
        engine = revstep.load(bundle.path)
        assert engine.spec.sampler.name == "heun"
        drawn = engine.sample(4, steps=3, seed=2, conditions={"label": [0, 1, 2, 3]}, guidance=2.5)
        samples.append(drawn.x)
    assert samples[0].std() > 0.05
    for other in samples[1:]:
        np.testing.assert_allclose(other, samples[0], atol=2e-5)


@pytest.mark.parametrize("time_dtype", ["float32", "float16", "float64", "int64", "int32"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_dtypes_of_every_kind(tmp_path, dtype, time_dtype):
    time = {"kind": "index"}
    schedule = {"kind": "vp", "steps": 100}
    bundle = made(tmp_path, spec(time=time, schedule=schedule), dtype=dtype, time_dtype=time_dtype)
    agrees(bundle, atol=5e-3 if dtype == "float16" else 2e-6, t=np.array([0.0, 40.0, 99.0]))
    graph = onnx.load(str(bundle.graph("fp32"))).graph
    kinds = {t.data_type for t in graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in kinds
    wide = 1e-2 if dtype == "float16" else 1e-4
    assert bundle.manifest["parity"]["bounds"]["fp32"]["forward"] == (
        1e-2 if time_dtype == "float16" else wide
    )


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 15, 17, 18, 20, 21, 23])
def test_every_opset_from_9_up(tmp_path, opset):
    bundle = made(tmp_path, SPEC, opset=opset)
    assert bundle.manifest["provenance"]["opset"] == max(opset, 18)
    agrees(bundle)


def test_a_given_opset_is_the_least(tmp_path):
    file = write_denoiser(tmp_path / "model.onnx")
    bundle = export_onnx(file, SPEC, tmp_path / "x.revstep", opset=20)
    assert bundle.manifest["provenance"]["opset"] == 20
    agrees(bundle)


@pytest.mark.parametrize(
    ("label_dtype", "label_shape", "dtype"),
    [
        ("int64", ("B",), "int64"),
        ("int32", ("B", 1), "int32"),
        ("float32", ("B",), "float32"),
        ("uint8", ("B",), "int32"),
    ],
)
def test_conditions_of_every_form(tmp_path, label_dtype, label_shape, dtype):
    values = spec(
        conditions=[
            {"name": "label", "dtype": "int64", "shape": [], "classes": 5, "null": 4},
            {"name": "context", "null": 0.0},
        ],
        inputs={"state": "noisy", "time": "sigma", "label": "class id"},
    )
    form = {"label": "class id", "label_dtype": label_dtype, "label_shape": label_shape}
    bundle = made(tmp_path, values, context="context", **form)
    assert bundle.spec.guidable
    agrees(bundle, label=[0, 3, 4])
    plain = spec(**{**values, "conditions": [{"name": "label"}, {"name": "context"}]})
    found = export_onnx(tmp_path / "model.onnx", plain, tmp_path / "y.revstep").spec.conditions
    assert found[0].dtype == dtype
    assert found[0].shape == label_shape[1:]
    assert (found[1].shape, found[1].dtype) == ((3,), "float32")


def test_a_tables_size_becomes_the_conditions_limits(tmp_path, capfd):
    bundle = made(tmp_path, spec(conditions=[{"name": "label"}]), label="label")
    assert bundle.spec.conditions[0].limits == (0, 4)
    assert capfd.readouterr().err == ""  # ONNX Runtime's own words about what was tried


def test_one_of_several_outputs(tmp_path):
    bundle = made(tmp_path, spec(output="denoised"), extra_output=True)
    agrees(bundle)
    assert [o.name for o in onnx.load(str(bundle.graph("fp32"))).graph.output] == ["out"]
    with pytest.raises(ExportError, match=r"outputs 'hidden'.*\[output\] name"):
        export_onnx(tmp_path / "model.onnx", SPEC, tmp_path / "y.revstep")
    assert not (tmp_path / "y.revstep").exists()


def test_a_time_that_is_one_at_the_data_and_a_velocity_that_leads_there(tmp_path):
    values = spec(
        prediction="flow",
        schedule={"kind": "flow"},
        time={"kind": "unit", "fractions": True},
        inputs={"state": "noisy", "time": {"name": "sigma", "scale": -1.0, "shift": 1.0}},
        output={"scale": -1.0},
    )
    bundle = made(tmp_path, values)
    agrees(bundle, time=lambda t: 1.0 - t, sign=-1.0, t=np.array([0.1, 0.5, 1.0]))
    assert bundle.manifest["provenance"]["names"]["output"] == {"scale": -1.0}


def test_whole_times_from_a_scaled_one(tmp_path):
    values = spec(
        prediction="flow",
        schedule={"kind": "flow"},
        time={"kind": "unit"},
        inputs={"state": "noisy", "time": {"name": "sigma", "scale": 1000.0}},
    )
    bundle = made(tmp_path, values, time_dtype="int64")
    agrees(bundle, time=lambda t: np.round(1000 * t), t=np.array([0.1003, 0.5, 1.0]))


@pytest.mark.parametrize("rows", ["B", None])
def test_channels_that_come_last(tmp_path, rows):
    values = spec(
        inputs={"state": {"name": "noisy", "channels_last": True}, "time": "sigma"},
        **({} if rows else {"shape": [2, 4, 4]}),
    )
    form = {"rows": rows, "time_shape": ("B",) if rows else ()}
    bundle = made(tmp_path, values, channels_last=True, **form)
    assert bundle.spec.shape == (2, 4, 4)
    agrees(bundle)


@pytest.mark.parametrize("time_shape", [(), (1,)])
def test_a_sample_without_an_axis_of_rows_is_known_by_its_time(tmp_path, time_shape):
    bundle = made(tmp_path, SPEC, rows=None, time_shape=time_shape)
    assert (bundle.spec.shape, bundle.spec.batch) == ((2, 4, 4), (1, 1))
    agrees(bundle)


def test_a_network_of_two_times(tmp_path):
    values = spec(
        prediction="average_velocity",
        schedule={"kind": "flow"},
        time={"kind": "unit", "fractions": True},
        second_time={"kind": "unit", "fractions": True},
        inputs={"state": "noisy", "time": "sigma", "second_time": {"name": "to", "scale": 2.0}},
    )
    bundle = made(tmp_path, values, second="to")
    assert bundle.spec.second_time.name == "to"
    buffers, _ = run(bundle, t=np.array([0.2, 0.5, 1.0]))
    buffers.second[:] = [0.0, 0.25, 0.1]
    OrtDenoiser(bundle.graph("fp32"), bundle.spec, threads=1).bind(buffers)()
    want = network(buffers.x, buffers.t, second=2.0 * buffers.second)
    np.testing.assert_allclose(buffers.out, want, atol=2e-6)
    assert np.isfinite(revstep.load(bundle.path).sample(2, sampler="flow_map", steps=2).x).all()


def test_names_that_are_no_identifiers(tmp_path):
    values = spec(inputs={"state": "serving/x:0", "time": "serving/t:0"})
    bundle = made(
        tmp_path, values, state="serving/x:0", time="serving/t:0", output="StatefulPartitioned:0"
    )
    assert (bundle.spec.name, bundle.spec.time.name) == ("sample", "timestep")
    agrees(bundle)


def test_names_of_the_spec_that_the_graph_uses_inside(tmp_path):
    values = spec(name="inner_0", time={"name": "rates", "kind": "sigma", "fractions": True})
    agrees(made(tmp_path, values))


def test_an_input_of_one_value(tmp_path):
    bundle = made(tmp_path, spec(constants={"label": 3}), label="label", label_shape=(1,))
    assert bundle.spec.conditions == ()
    assert bundle.manifest["provenance"]["names"]["constants"] == {"label": 3}
    buffers, _ = run(bundle)
    np.testing.assert_allclose(
        buffers.out, network(buffers.x, buffers.t, label=[3, 3, 3]), atol=2e-6
    )


def test_free_axes_are_those_of_the_spec(tmp_path):
    agrees(made(tmp_path, spec(shape=[2, 4, 4]), free_size=True))
    with pytest.raises(ExportError, match=r"leaves axes free.*one sample's in the spec, shape = "):
        export_onnx(tmp_path / "model.onnx", SPEC, tmp_path / "y.revstep")
    model = onnx.load(write_denoiser(tmp_path / "model.onnx", context="context"))
    model.graph.input[-1].type.tensor_type.shape.dim[1].dim_param = "length"
    onnx.save(model, tmp_path / "model.onnx")
    asked = spec(conditions=[{"name": "context"}])
    with pytest.raises(
        ExportError, match=r"its own in the spec, \[\[conditions\]\] name = .context"
    ):
        export_onnx(tmp_path / "model.onnx", asked, tmp_path / "y.revstep")


def test_a_spec_of_python_with_a_part_that_no_file_has_is_refused(tmp_path):
    spec = revstep.DenoiserSpec(
        shape=(2, 4, 4), schedule=revstep.schedules.VPSchedule(), prediction="epsilon",
        decoder=revstep.Decoder(shape=(3, 8, 8)),
    )  # fmt: skip
    file = write_denoiser(tmp_path / "model.onnx")
    with pytest.raises(
        ValueError, match=r"the spec has decoder, and .* holds nothing that decodes"
    ):
        export_onnx(file, spec, tmp_path / "x.revstep", inputs=SPEC["inputs"])
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_an_axis_of_rows_of_minus_one_is_free(tmp_path):
    assert made(tmp_path, SPEC, rows=-1, time_shape=(-1,)).spec.batch[1] > 1


def test_weights_beside_the_file(tmp_path):
    (tmp_path / "model").mkdir()
    file = write_denoiser(tmp_path / "model" / "m.onnx", external=True, label="label")
    values = spec(conditions=[{"name": "label"}])
    bundle = export_onnx(file, values, tmp_path / "x.revstep")
    assert not (bundle.path / "weights.bin").exists()
    agrees(bundle, label=[0, 1, 4])
    (tmp_path / "model" / "weights.bin").unlink()
    with pytest.raises(ExportError, match=r"keeps the weight '\w+' in weights.bin"):
        export_onnx(file, values, tmp_path / "y.revstep")


def test_an_old_file_that_lists_its_weights_as_inputs(tmp_path):
    agrees(made(tmp_path, SPEC, listed_weights=True, opset=9))


def test_a_spec_of_python_with_names_beside_it(tmp_path):
    file = write_denoiser(tmp_path / "model.onnx", label="y", label_dtype="int64")
    whole = revstep.DenoiserSpec(
        shape=(2, 4, 4),
        schedule=revstep.schedules.VESchedule(sigma_max=20.0),
        prediction="sample",
        time=revstep.TimeInput(kind="sigma", fractions=True),
        conditions=(revstep.Condition(name="label", dtype="int64", classes=5),),
    )
    bundle = export_onnx(
        file,
        whole,
        tmp_path / "x.revstep",
        inputs={"state": "noisy", "time": "sigma", "label": "y"},
        output="denoised",
    )
    assert bundle.spec == whole
    agrees(bundle, label=[1, 0, 2])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_reduced_precisions(tmp_path, dtype):
    bundle = made(tmp_path, SPEC, ("fp16", "bf16"), dtype=dtype)
    assert bundle.precisions == ("fp16", "bf16")
    assert not (bundle.path / "denoiser.fp32.onnx").exists()
    assert bundle.manifest["provenance"]["precision"]["fp16"]["nodes"] > 0
    agrees(bundle, atol=2e-2, precision="fp16")


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
def test_a_bfloat16_file_is_held_to_its_float32_form(tmp_path, caplog, state_dtype):
    bundle = made(tmp_path, SPEC, dtype="bfloat16", state_dtype=state_dtype)
    assert "in its own bfloat16" in caplog.text
    assert bundle.manifest["parity"]["bounds"]["fp32"]["forward"] == 5e-2
    agrees(bundle, atol=5e-2)


def test_it_compiles_like_any_other(tmp_path):
    bundle = made(tmp_path, SPEC, opset=11)
    figures = compile_bundle(bundle.path, target="onnxruntime", precision="fp32").parity
    assert figures["forward"]["error"] < 1e-5


@pytest.mark.tensorrt
@pytest.mark.parametrize(
    ("form", "values"),
    [
        ({}, {}),
        ({"rows": 3, "time_shape": (3,), "baked": True}, {}),
        ({"time_shape": ()}, {}),
        ({"rows": None, "time_shape": ()}, {}),
        ({"channels_last": True}, names(state={"name": "noisy", "channels_last": True})),
        ({"time_dtype": "int64"}, {"time": {"kind": "index"}}),
    ],
)
def test_tensorrt_rtx_builds_files_of_every_form(tmp_path, form, values):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    bundle = made(tmp_path, {**SPEC, **values}, **form)
    entry = compile_bundle(
        bundle.path, target="tensorrt_rtx", options=BuildOptions(gpus=("sm_89",))
    )
    assert (bundle.path / entry.file).stat().st_size > 0


def test_openvino_runs_it_like_any_other(tmp_path):
    pytest.importorskip("openvino")
    bundle = made(tmp_path, SPEC)
    ours = revstep.load(bundle.path, backend="openvino").sample(2, steps=3, seed=1).x
    want = revstep.load(bundle.path, backend="onnxruntime").sample(2, steps=3, seed=1).x
    np.testing.assert_allclose(ours, want, atol=1e-4)
    assert Bundle.open(bundle.path).spec == bundle.spec
