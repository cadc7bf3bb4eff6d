"""Exporting a module: the graph is the module, for any batch; what does not fit is refused."""

import copy
import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from damage import snapshot
from safetensors.numpy import load_file
from specs import random_inputs
from torch import nn
from toys import IMAGE, POLICY, TABULAR, PolicyToy, TabularToy, build
from zoo.run_graph import run_graph

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Decoder
from revstep.export import export_module
from revstep.export.graph.failure import failure
from revstep.export.module.checks import scan_weights


@pytest.mark.parametrize("kind", ["image", "policy", "tabular"])
@pytest.mark.parametrize("rows", [1, 2, 5, 19])
def test_the_graph_gives_the_modules_output_for_any_batch(kind, rows, request):
    bundle = request.getfixturevalue(f"{kind}_bundle")
    module, spec, _ = build(kind)
    inputs = random_inputs(spec, rows)
    with torch.inference_mode():
        want = module(*(torch.from_numpy(v) for v in inputs.values())).numpy()
    got = run_graph(bundle / "denoiser.fp32.onnx", inputs)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("kind", ["image", "policy", "tabular"])
def test_inputs_are_the_specs_in_order_with_a_symbolic_batch(kind, request):
    bundle = request.getfixturevalue(f"{kind}_bundle")
    _, spec, _ = build(kind)
    model = onnx.load(bundle / "denoiser.fp32.onnx")
    names = [i.name for i in model.graph.input]
    assert names == [spec.name, spec.time.name, *(c.name for c in spec.conditions)]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        assert dims[0].dim_param == "batch"
        assert all(d.dim_value > 0 for d in dims[1:])
    assert [o.version for o in model.opset_import if o.domain == ""] == [20]


def test_fp16_keeps_float32_inputs_and_outputs(image_bundle):
    graph = onnx.load(image_bundle / "denoiser.fp16.onnx").graph
    kinds = [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)]
    f32, i64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    assert kinds == [f32, f32, i64, f32]
    weights = {i.name: i.data_type for i in graph.initializer if len(i.dims) > 1}
    assert weights["module.module.first.weight"] == onnx.TensorProto.FLOAT16
    assert weights["module.module.last.weight"] == onnx.TensorProto.FLOAT16
    assert weights["module.module.time.weight"] == onnx.TensorProto.FLOAT


def test_fp16_is_near_the_module_at_every_time(image_bundle):
    module, spec, _ = build("image")
    inputs = random_inputs(spec, 6)
    inputs["timestep"] = np.array([0, 1, 10, 100, 500, 999], dtype=np.float32)
    with torch.inference_mode():
        want = module(*(torch.from_numpy(v) for v in inputs.values())).numpy()
    got = run_graph(image_bundle / "denoiser.fp16.onnx", inputs)
    error = np.abs(got - want).reshape(6, -1).max(axis=1)
    assert error.max() < 5e-3  # a time cast to fp16 (angles near 1000) gives 0.05 and more
    assert got.dtype == np.float32


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 2e-5), ("fp16", 1e-2)])
def test_the_demo_graph_gives_the_golden_outputs(demo_bundle, demo_folder, precision, bound):
    golden = load_file(demo_folder / "golden.safetensors")
    inputs = {
        "sample": golden["x"],
        "timestep": golden["t"].astype(np.float32),
        "class_labels": golden["y"].astype(np.int64),
    }
    got = run_graph(demo_bundle / f"denoiser.{precision}.onnx", inputs)
    assert np.abs(got - golden["v"]).max() < bound * np.sqrt(np.mean(golden["v"] ** 2))


def test_the_decoder_takes_any_batch(image_bundle):
    _, _, decoder = build("image")
    latents = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    with torch.inference_mode():
        want = decoder(torch.from_numpy(latents)).numpy()
    got = run_graph(image_bundle / "decoder.onnx", {"latent": latents})
    assert got.shape == (3, 3, 16, 16)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_manifest_says_where_the_bundle_comes_from(image_bundle):
    manifest = json.loads((image_bundle / "manifest.json").read_text())
    provenance = manifest["provenance"]
    assert provenance["source"] == {"kind": "factory", "name": "toys:image"}
    assert provenance["tools"]["torch"] == torch.__version__
    assert provenance["opset"] == 20
    assert provenance["parameters"] == sum(p.numel() for p in build("image")[0].parameters())
    assert provenance["created"].endswith("+00:00")
    assert manifest["parity"]["bounds"]["fp16"] == {"forward": 1e-2, "ddim20": 3e-2}
    assert 0 < manifest["parity"]["figures"]["graph.fp16"]["forward"]["error"] < 1e-2


def test_an_export_says_nothing_and_leaves_the_callers_module_alone(tmp_path, capfd):
    module = TabularToy().double().train()
    before = copy.deepcopy(module.state_dict())
    calls = []
    bundle = export_module(
        module, TABULAR, tmp_path / "x.revstep", progress=lambda *call: calls.append(call)
    )
    assert capfd.readouterr() == ("", "")
    assert module.training
    assert all(torch.equal(v, before[k]) and v.dtype == torch.float64
               for k, v in module.state_dict().items())  # fmt: skip
    done = [d for _, d, _ in calls]
    assert done == sorted(done)
    assert {n for *_, n in calls} == {done[-1]}
    assert bundle.path == tmp_path / "x.revstep"
    assert [p.name for p in tmp_path.iterdir()] == ["x.revstep"]


def test_bf16_is_exported(tmp_path):
    module, spec, _ = build("tabular")
    bundle = export_module(module, spec, tmp_path / "x.revstep", precisions=("bf16",))
    graph = onnx.load(bundle.graph("bf16")).graph
    weights = {i.data_type for i in graph.initializer if len(i.dims) > 1}
    assert weights == {onnx.TensorProto.BFLOAT16}
    assert list(bundle.manifest["graphs"]) == ["bf16"]
    assert "denoiser.fp32.onnx" not in bundle.manifest["files"]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


class Changed(TabularToy):
    """A tabular toy whose forward is the given function of (module, x, t)."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x, t):
        return self.change(super().forward, x, t)


def branch_on_batch(f, x, t):
    return f(x, t) + (1.0 if x.shape[0] == 2 else 1.00001)


def branch_on_value(f, x, t):
    return f(x, t) if x[0, 0] > -1e30 else f(x, -t)


REFUSED = {
    "shape": (lambda f, x, t: f(x, t)[:, :3], r"returned shape \(2, 3\).*expected \(2, 6\)"),
    "tuple": (lambda f, x, t: (f(x, t), t), "returned tuple.*one tensor"),
    "integers": (lambda f, x, t: f(x, t).long(), "torch.int64.*float32"),
    "raises": (lambda f, x, t: f(x, t[:, None]), "the module failed on row float32"),
    "baked": (lambda f, x, t: f(x.reshape(2, 6), t.reshape(2)), "not at batch 3.*a reshape"),
    "loop": (
        lambda f, x, t: torch.cat([f(x[i : i + 1], t[i : i + 1]) for i in range(len(x))]),
        "no python loop over its rows",
    ),
    "guidance inside": (  # torch.export's chunk of a free batch
        lambda f, x, t: f(torch.cat([x, -x]), torch.cat([t, t])).chunk(2)[0],
        r"fix(es|ed).* batch.*y\[:x.shape\[0\]\] instead of y.chunk",
    ),
    "whole times": (
        lambda f, x, t: nn.functional.embedding(t, torch.ones(1000, 6)),
        r"'t' up in a table, call it with t.round\(\).long\(\)",
    ),
    "batch norm": (
        lambda f, x, t: nn.functional.batch_norm(f(x, t), None, None, training=True),
        "not at batch 1.*BatchNorm in train mode",
    ),
    "branch": (branch_on_batch, "fix(es|ed).* batch"),
    "value": (branch_on_value, "branches on a tensor.s values"),
    "mixes": (lambda f, x, t: f(x, t) - x.mean(0), "rows depend on each other"),
    "random": (lambda f, x, t: f(x, t) + torch.rand(1), "two different outputs"),
    "nan": (lambda f, x, t: f(x, t) * torch.inf, "NaN or infinity"),
    "squeezes": (lambda f, x, t: f(x.squeeze(0)[:, :6], t), r"not at batch 1,.*squeeze\(\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_module_that_does_not_fit_is_refused(case, tmp_path, capfd):
    change, message = REFUSED[case]
    with pytest.raises(ExportError, match=message):
        export_module(Changed(change), TABULAR, tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_other_threads_print_meanwhile_gets_through(capsys):
    import sys
    import threading

    from revstep.export.graph.exporter import _quiet

    with _quiet():
        sys.stdout.write("the exporter's\n")
        other = threading.Thread(target=lambda: sys.stdout.write("a progress bar's\n"))
        other.start()
        other.join()
    assert capsys.readouterr().out == "a progress bar's\n"


def test_a_module_of_other_inputs_names_the_right_ones(tmp_path):
    with pytest.raises(ExportError, match=r"actions float32 \(2, 8, 2\), k float32 \(2,\)"):
        export_module(TabularToy(), POLICY, tmp_path / "x.revstep")


def test_missing_learned_variance_is_refused(tmp_path):
    module = build("image")[0]
    module.last = nn.Conv2d(16, 3, 3, padding=1)
    _, _, decoder = build("image")
    with pytest.raises(ExportError, match=r"\(2, 3, 8, 8\).*expected \(2, 6, 8, 8\).*learned"):
        export_module(module, IMAGE, tmp_path / "x.revstep", decoder=decoder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_weight_is_named(value, tmp_path):
    module = PolicyToy()
    with torch.no_grad():
        module.context.weight[3, 5] = value
    with pytest.raises(ExportError, match=r"'context.weight' \(16, 20\) holds 1 NaN or inf"):
        export_module(module, POLICY, tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []


def test_nan_in_a_complex_buffer_is_named():
    module = PolicyToy()
    module.register_buffer("turn", torch.tensor([1.0 + 1.0j, complex(0.0, float("nan"))]))
    with pytest.raises(ExportError, match=r"'turn' \(2,\) holds 1 NaN"):
        scan_weights(module)


def test_a_mask_buffer_may_hold_infinity_but_not_nan(tmp_path):
    module = PolicyToy()
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]), persistent=False)
    scan_weights(module)
    module.mask[0] = torch.nan
    with pytest.raises(ExportError, match="'mask'"):
        scan_weights(module)


def test_decoder_and_spec_go_together(tmp_path):
    module, spec, decoder = build("image")
    with pytest.raises(ExportError, match="no decoder module was given"):
        export_module(module, spec, tmp_path / "x.revstep")
    with pytest.raises(ExportError, match=r"spec\.decoder is None"):
        export_module(*build("tabular")[:2], tmp_path / "x.revstep", decoder=decoder)
    wrong = dataclasses.replace(spec, decoder=Decoder(shape=(3, 8, 8)))
    with pytest.raises(ExportError, match=r"decoder returned \(2, 3, 16, 16\).*\(2, 3, 8, 8\)"):
        export_module(module, wrong, tmp_path / "x.revstep", decoder=decoder)


@pytest.mark.parametrize("precisions", [(), ("fp8",), ("fp32", "int8"), "fp32,half"])
def test_an_unknown_precision_is_the_callers_mistake(precisions, tmp_path):
    with pytest.raises(ValueError, match="allowed: fp32, fp16, bf16"):
        export_module(*build("tabular")[:2], tmp_path / "x.revstep", precisions=precisions)


@pytest.mark.parametrize("opset", [17, 23])
def test_an_opset_that_does_not_run_everywhere_is_refused(opset, tmp_path):
    with pytest.raises(ValueError, match="18 to 22"):
        export_module(*build("tabular")[:2], tmp_path / "x.revstep", opset=opset)


def test_an_existing_bundle_is_kept_unless_it_may_be_replaced(tabular_bundle, copy_of):
    path = copy_of(tabular_bundle)
    before = snapshot(path)
    with pytest.raises(ExportError, match="exists; pass --overwrite"):
        export_module(*build("tabular")[:2], path)
    broken = Changed(lambda f, x, t: (f(x, t), t))
    with pytest.raises(ExportError, match="one tensor"):
        export_module(broken, TABULAR, path, overwrite=True)
    assert snapshot(path) == before


@pytest.mark.parametrize("limit", [8, 40, 100])
def test_a_branch_on_the_batch_is_refused_wherever_it_lies(tmp_path, limit):
    class Branching(TabularToy):
        def forward(self, x, t):
            out = super().forward(x, t)
            return 2 * out if x.shape[0] > limit else out

    spec = dataclasses.replace(TABULAR, batch=(1, 128))
    with pytest.raises(ExportError, match="batch 128 than at batch 2"):
        export_module(Branching(), spec, tmp_path / "x.revstep")
    assert list(tmp_path.iterdir()) == []


def test_a_branch_on_the_batch_that_changes_nothing_is_taken(tmp_path):
    class Harmless(TabularToy):
        def forward(self, x, t):
            out = super().forward(x, t)
            return out.contiguous() if x.shape[0] >= 40 else out

    export_module(Harmless(), TABULAR, tmp_path / "x.revstep")


def test_the_exporters_own_words_come_last_and_short(tmp_path):
    with pytest.raises(ExportError) as caught:
        export_module(Changed(branch_on_value), TABULAR, tmp_path / "x.revstep")
    own, _, theirs = str(caught.value).partition(" The exporter said: ")
    assert own.startswith("the module branches on a tensor's values")
    assert 0 < len(theirs) < 220


def test_the_exporters_advice_to_report_an_issue_is_left_out():
    said = "We found a fake tensor. Please file an issue on github."
    assert str(failure(RuntimeError(said))).endswith("RuntimeError: We found a fake tensor.")


def test_what_is_no_module_or_spec_is_named(tmp_path):
    path = tmp_path / "x.revstep"
    with pytest.raises(TypeError, match="spec must be a DenoiserSpec; got None"):
        export_module(TabularToy(), None, path)
    with pytest.raises(TypeError, match=r"the module must be a torch.nn.Module; got function"):
        export_module(lambda x, t: x, TABULAR, path)
    with pytest.raises(TypeError, match=r"got type \(the class: make one\)"):
        export_module(TabularToy, TABULAR, path)
    with pytest.raises(TypeError, match=r"the decoder must be a torch.nn.Module; got str"):
        export_module(TabularToy(), TABULAR, path, decoder="vae")
    assert list(tmp_path.iterdir()) == []


def test_a_scripted_module_is_refused(tmp_path):
    traced = torch.jit.trace(TabularToy(), (torch.zeros(2, 6), torch.zeros(2)))
    with pytest.raises(ExportError, match=r"is a TorchScript module.*it was made from"):
        export_module(traced, TABULAR, tmp_path / "x.revstep")


def test_weights_without_values_are_refused(tmp_path):
    with pytest.raises(ExportError, match=r"'net.0.weight' is on the meta device"):
        export_module(TabularToy().to("meta"), TABULAR, tmp_path / "x.revstep")


def test_a_folder_is_not_read_for_a_target_that_may_not_be_written(tabular_bundle, copy_of):
    from revstep.export import export_diffusers

    with pytest.raises(ExportError, match="exists; pass --overwrite"):
        export_diffusers("no such folder", copy_of(tabular_bundle))
    with pytest.raises(ValueError, match="allowed: fp32, fp16, bf16"):
        export_diffusers("no such folder", "x.revstep", precisions=("int8",))
