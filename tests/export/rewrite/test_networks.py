"""Whole networks, rewritten as for each runtime and by everything: the bundle's own parity holds.

The reference is the PyTorch module, whose outputs and DDIM-20 run every bundle keeps.
"""

import numpy as np
import onnx
import pytest
import torch
from rewritten import by_onnxruntime, by_openvino, error, in_float64, kinds
from zoo import ZOO

from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.bundle.reader import Bundle
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule
from revstep.export import export_module
from revstep.export.parity.bounds import BOUNDS, forward_error
from revstep.export.parity.check import check_parity
from revstep.export.rewrite.apply import applicable, rewrite_graph
from revstep.export.rewrite.rewrite import RUNTIMES
from revstep.export.rewrite.table import REWRITES

ANIMALS = [
    "2-D state, Conv1d", "1-D state of an odd size", "InstanceNorm", "a U-Net at an odd size",
    "scaled_dot_product_attention", "a bool mask over written-out attention",
    "a patched forward", "weight norm",
]  # fmt: skip


def graph_of(path):
    return path / "denoiser.fp32.onnx"


def feeds(bundle, graph, rows=slice(None)):
    """The bundle's 8 rows, as the graph takes them."""
    parity, found = bundle.parity(), {}
    arrays = [parity["x"], parity["t"]]
    arrays += [parity[f"cond.{c.name}"] for c in bundle.spec.conditions]
    for value, array in zip(graph.graph.input, arrays, strict=True):
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        found[value.name] = array[rows].astype(kind)
    return found


def check(path, tmp_path, expected=()):
    """Parity of every set of rewrites on ONNX Runtime, and one forward on OpenVINO."""
    bundle, source = Bundle.open(path), graph_of(path)
    names = applicable(source)
    assert set(expected) <= set(names)
    for number, chosen in enumerate([*(applicable(source, r) for r in RUNTIMES), names]):
        if not chosen:
            continue
        out = tmp_path / f"{number}.onnx"
        assert rewrite_graph(source, out, chosen) == chosen
        parity = bundle.parity()
        check_parity(OrtDenoiser(out, bundle.spec, threads=1), parity, "fp32")
        after = onnx.load(out)
        found = by_openvino(after, feeds(bundle, after))
        if found is not None:
            assert forward_error(found[0], parity["out"]) < BOUNDS["fp32"].forward
        for batch in (1, 2, 5):
            given = feeds(bundle, after, slice(batch))
            want = in_float64(onnx.load(source), given)[0]
            assert error(by_onnxruntime(after, given)[0], want) < 5e-6  # as before: rounding
    return names


def exported(module, spec, path):
    torch.manual_seed(0)
    with torch.no_grad():  # what starts at zero would hide half of a network
        for p in module.parameters():
            if not p.any():
                p.normal_(std=0.02)
    export_module(module.eval(), spec, path, precisions=("fp32",))
    return path


def test_a_policy_of_1d_convolutions(tmp_path):
    from suites.gpu.policy import PolicyUnet

    torch.manual_seed(0)
    spec = DenoiserSpec(
        shape=(8, 3), schedule=VPSchedule(steps=100, betas="squaredcos_cap_v2"),
        prediction="epsilon", conditions=(Condition(name="observation", shape=(4,), null=0.0),),
    )  # fmt: skip
    path = exported(PolicyUnet(3, 4, (16, 24, 32)), spec, tmp_path / "policy.revstep")
    expected = ("constant_shapes", "conv_2d", "mish", "full_operands")
    check(path, tmp_path, expected)
    rewrite_graph(graph_of(path), tmp_path / "o.onnx", applicable(graph_of(path), "onnxruntime"))
    after = onnx.load(tmp_path / "o.onnx")
    assert not {"Shape", "Mish"} & set(kinds(after))
    sizes = {len(i.dims) for n in after.graph.node for i in after.graph.initializer
             if n.op_type in {"Conv", "ConvTranspose"} and n.input[1] == i.name}  # fmt: skip
    assert sizes == {4}


def test_the_bundled_unet(demo_bundle, tmp_path):
    check(demo_bundle, tmp_path, ("constant_shapes", "attention", "group_norm_means"))


def test_a_transformer(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    from suites.precision.networks import Wrapped

    torch.manual_seed(0)
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4,
        num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=10,
    )  # fmt: skip
    spec = DenoiserSpec(
        shape=(4, 8, 8), schedule=VPSchedule(), prediction="epsilon",
        conditions=(Condition(name="label", dtype="int64", null=10, classes=11),),
    )  # fmt: skip
    module = Wrapped(
        net, lambda f, x, t, c: f(x, timestep=t.long(), class_labels=c, return_dict=False)
    )
    check(exported(module, spec, tmp_path / "dit.revstep"), tmp_path, ("attention",))


@pytest.mark.parametrize("bundle", ["image_bundle", "policy_bundle", "tabular_bundle"])
def test_toys(bundle, request, tmp_path):
    check(request.getfixturevalue(bundle), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ANIMALS if n in ZOO])
def test_animals(name, tmp_path):
    animal = ZOO[name]
    path = tmp_path / "animal.revstep"
    export_module(animal.make(), animal.describe(), path, precisions=("fp32",), **animal.options)
    check(path, tmp_path)


def test_a_16_bit_graph_still_runs(demo_bundle, tmp_path):
    source, out = demo_bundle / "denoiser.fp16.onnx", tmp_path / "out.onnx"
    changed = rewrite_graph(source, out, list(REWRITES))
    before = onnx.load(source)
    given = feeds(Bundle.open(demo_bundle), before, slice(2))
    after = onnx.load(out) if changed else before
    np.testing.assert_allclose(
        by_onnxruntime(after, given)[0], by_onnxruntime(before, given)[0], atol=0.02
    )
