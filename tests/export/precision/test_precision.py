"""fp16 and bf16 graphs: near the module, of types that agree, with float32 where it is needed."""

import dataclasses
import math
import re

import numpy as np
import onnx
import pytest
import torch
from specs import spec_of
from torch import nn
from toys import embed
from zoo.run_graph import run_graph

from revstep.engine.errors import ExportError
from revstep.export import compile_bundle, export_module

F32, F16, BF16 = (getattr(onnx.TensorProto, n) for n in ("FLOAT", "FLOAT16", "BFLOAT16"))
SPEC = spec_of(shape=(16,))
TIMES = np.array([0, 1, 10, 100, 500, 937, 999], np.float32)


class Mlp(nn.Module):
    """A hand-written embedding, no casts; ``change`` makes an operation of the state."""

    def __init__(self, change=lambda h: h):
        super().__init__()
        torch.manual_seed(0)
        self.time = nn.Sequential(nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 32))
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 16)
        self.change = change

    def forward(self, x, t):
        h = self.first(x) + self.time(embed(t, 32))
        return self.last(self.change(torch.tanh(h)))


def export(module, path, *precisions, spec=SPEC):
    return export_module(module.eval(), spec, path / "x.revstep", precisions=precisions)


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """The bundle of ``Mlp`` in every precision."""
    return export(Mlp(), tmp_path_factory.mktemp("mlp"), "fp32", "fp16", "bf16")


def inputs(spec=SPEC):
    x = np.random.default_rng(5).standard_normal((len(TIMES), *spec.shape)).astype(np.float32)
    return {spec.name: x, spec.time.name: TIMES}


def error(bundle, want, feeds, precision="fp16"):
    """The largest error of the graph over the RMS of what is wanted."""
    got = run_graph(bundle.graph(precision), feeds)
    return np.abs(got - want).max() / np.sqrt(np.mean(want**2))


def module_output(module, feeds):
    with torch.no_grad():
        return module.double()(*(torch.from_numpy(v).double() for v in feeds.values())).numpy()


def types(path):
    """Node name -> element type of its first output; the graph passes onnx's full check."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    known = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    known |= {v.name: v.type.tensor_type.elem_type for v in model.graph.output}
    return {n.name: known[n.output[0]] for n in model.graph.node}, model.graph


def test_a_hand_written_embedding_needs_no_casts_in_fp16(mlp, copy_of):
    feeds = inputs()
    want = module_output(Mlp().eval(), feeds)
    assert error(mlp, want, feeds) < 5e-3  # a time in fp16 gives 0.05
    copy = copy_of(mlp.path)
    assert compile_bundle(copy, precision="fp16").parity["forward"]["error"] < 1e-2


@pytest.mark.parametrize(("precision", "low"), [("fp16", F16), ("bf16", BF16)])
def test_products_of_the_state_are_16_bits_and_the_embedding_float32(mlp, precision, low):
    found, graph = types(mlp.graph(precision))
    gemms = [found[n.name] for n in graph.node if n.op_type == "Gemm"]
    assert gemms.count(low) == 2 + 1  # first, last, and the embedding's own last projection
    assert gemms.count(F32) == 1
    assert {found[n.name] for n in graph.node if n.op_type in ("Sin", "Cos")} == {F32}
    assert [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)] == [F32] * 3
    assert [o.name for o in graph.output] == ["out"]


def test_what_overflows_on_the_trajectory_stays_float32(tmp_path):
    module = Mlp(lambda h: (h * 3e4) * (h * 3e4) / 9e8)
    bundle = export(module, tmp_path, "fp16")
    feeds = inputs()
    want = module_output(module.eval(), feeds)
    assert error(bundle, want, feeds) < 1e-2
    assert bundle.manifest["provenance"]["precision"]["fp16"]["fp32"]["range"] >= 2


def test_a_masked_attention_of_large_negative_numbers_survives_fp16(tmp_path):
    spec = dataclasses.replace(SPEC, shape=(4, 8))

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.qkv, self.last = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x, t):
            q, k, v = self.qkv(x).chunk(3, -1)
            off = (t > 1e6)[:, None] | torch.ones(4, dtype=torch.bool)  # every key, as of no prompt
            mask = off.float() * torch.finfo(torch.float32).min
            scores = q @ k.transpose(1, 2) / math.sqrt(8) + mask[:, None]
            return self.last(torch.softmax(scores, -1) @ v)

    bundle = export(Masked(), tmp_path, "fp16", spec=spec)
    feeds = inputs(spec)
    with torch.no_grad():
        want = Masked()(*(torch.from_numpy(v) for v in feeds.values())).numpy()
    assert error(bundle, want, feeds) < 1e-2


def test_stacking_a_state_and_a_float32_wave_gives_types_that_agree(tmp_path):
    class Stacks(Mlp):
        def forward(self, x, t):
            wave = torch.sin(t[:, None] * torch.arange(1.0, 33.0) * 1e-3)
            return self.last(torch.stack([self.first(x), wave], 1).sum(1))

    bundle = export(Stacks(), tmp_path, "fp16", "bf16")
    for precision in ("fp16", "bf16"):
        types(bundle.graph(precision))


class Cancels(nn.Module):
    """A small difference of large numbers, which 16 bits lose."""

    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = (nn.Linear(16, 16) for _ in range(3))
        self.size = size

    def forward(self, x, t):
        h = torch.tanh(self.middle(torch.tanh(self.first(x))))
        return self.last(h + self.size) - self.last(torch.full_like(h, self.size))


def test_more_nodes_stay_float32_where_the_error_asks_for_it(tmp_path):
    module = Cancels(100.0)
    bundle = export(module, tmp_path, "fp16")
    counts = bundle.manifest["provenance"]["precision"]["fp16"]
    assert counts["fp32"]["accuracy"] > 0
    assert counts["nodes"] > 0
    figures = bundle.manifest["parity"]["figures"]["graph.fp16"]
    assert figures["forward"]["error"] < figures["forward"]["bound"] == 1e-2
    feeds = inputs()
    want = module_output(module.eval(), feeds)
    assert error(bundle, want, feeds) < 1e-2


def test_a_module_of_which_no_product_can_be_reduced_is_refused(tmp_path):
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.eye(16) + 1e-4 * torch.ones(16, 16))

        def forward(self, x, t):
            return 1e4 * ((x @ self.weight) - x)

    with pytest.raises(ExportError, match=r"no matrix product or convolution .* can be in bf16"):
        export(Single(), tmp_path, "bf16")
    assert list(tmp_path.iterdir()) == []


def test_the_counts_of_nodes_are_those_of_the_graph(mlp):
    counts = mlp.manifest["provenance"]["precision"]["fp16"]
    found, graph = types(mlp.graph("fp16"))
    low = [n for n in graph.node if found[n.name] == F16 and n.op_type != "Cast"]
    assert counts["nodes"] == len(low)
    assert counts["fp32"]["embedding"] > 0
    assert set(counts["fp32"]) <= {"embedding", "edge", "between"}


def test_bf16_is_emulated_as_onnxs_own_evaluator_computes_it(mlp):
    from onnx.reference import ReferenceEvaluator

    parity = mlp.parity()
    feeds = {SPEC.name: parity["x"], SPEC.time.name: parity["t"]}
    got = ReferenceEvaluator(str(mlp.graph("bf16"))).run(None, feeds)[0]
    own = np.abs(got - parity["out"]).max() / np.sqrt(np.mean(parity["out"] ** 2))
    reported = mlp.manifest["parity"]["figures"]["graph.bf16"]["forward"]["error"]
    assert 0.3 * own < reported < 3 * own  # its products sum in bfloat16


def test_nodes_keep_their_names_and_lines(mlp):
    full, low = (onnx.load(mlp.graph(p)).graph.node for p in ("fp32", "fp16"))

    def notes(nodes):
        return {n.name: {p.key: p.value for p in n.metadata_props} for n in nodes}

    reduced = notes(low)
    assert all(reduced[name] == note for name, note in notes(full).items())
    lines = {line for note in reduced.values() for line in note.items()}
    assert len(lines) == 2
    file = re.compile(r"(tests/export/precision/)?test_precision\.py:\d+")
    assert all(key == "revstep.line" and file.fullmatch(line) for key, line in lines)


def test_weights_beside_the_file_stay_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("revstep.export.precision.types.INLINE", 0)
    bundle = export(Mlp(), tmp_path, "fp32", "fp16", "bf16")
    for precision in ("fp16", "bf16"):
        assert f"denoiser.{precision}.onnx.data" in bundle.manifest["files"]
    feeds = inputs()
    want = module_output(Mlp().eval(), feeds)
    assert error(bundle, want, feeds) < 5e-3


def test_without_onnx_runtime_reduced_precisions_are_refused_before_any_work(tmp_path, monkeypatch):
    import importlib.util

    from revstep.export.sources import module as module_export

    def missing(name):
        return None if name == "onnxruntime" else importlib.util.find_spec(name)

    monkeypatch.setattr(module_export, "find_spec", missing)
    with pytest.raises(ExportError, match=r"measured with ONNX Runtime.*revstep\[cpu\]"):
        export(Mlp(), tmp_path, "fp32", "fp16")
    export(Mlp(), tmp_path, "fp32")
