"""Plans held to the bundle's reference, with a TensorRT that runs graphs in ONNX Runtime."""

import functools

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from damage import edit_manifest, snapshot  # noqa: E402
from fake_trt import Faults, fake_trt, graph_plan  # noqa: E402

from revstep.engine.backends.trt.choice import GpuModel  # noqa: E402
from revstep.engine.backends.trt.library import TrtLibrary  # noqa: E402
from revstep.engine.bundle.reader import Bundle  # noqa: E402
from revstep.engine.errors import ParityError  # noqa: E402
from revstep.export import compile_bundle  # noqa: E402
from revstep.export.targets import trt_compile  # noqa: E402
from revstep.export.targets.trt_parity import checked_plans  # noqa: E402

KEYS = ("encoder.text", "picture_encoder", "decoder")


@pytest.fixture
def machine(monkeypatch):
    """A machine with a GPU and a TensorRT; gives what was built, and the plan's wrong graphs."""
    built, wrong, faults = [], {}, Faults()

    def build(source, library, **options):
        built.append(source.part)
        profile = source.profile
        graph = wrong.get(source.part, source.graph)
        return graph_plan(graph, profile.min, profile.opt, profile.max), None

    library = TrtLibrary("tensorrt", fake_trt(faults), "10.16.1", rtx=False)
    monkeypatch.setattr(trt_compile, "_gpu", lambda: GpuModel("NVIDIA L4", (8, 9)))
    monkeypatch.setattr(trt_compile, "trt_library", lambda name: library)
    monkeypatch.setattr(trt_compile, "build_plan", build)
    monkeypatch.setattr(
        trt_compile, "checked_plans", functools.partial(checked_plans, device="cpu")
    )
    return built, wrong, faults


def test_every_network_and_the_whole_way_are_checked_where_plans_run(
    reading_bundle, copy_of, machine
):
    path = copy_of(reading_bundle)
    entry = compile_bundle(path, target="tensorrt", batch=4)
    assert sorted(entry.parity) == ["ddim20", "decoder", "edges", "encoder.text", "forward",
                                    "picture_encoder"]  # fmt: skip
    bundle = Bundle.open(path)
    assert bundle.compiled == (entry,)
    assert {e.part: e.parity for e in bundle.compiled_parts} == {
        key: {"forward": entry.parity[key]} for key in KEYS
    }
    for e in bundle.compiled_parts:
        name = f"{e.part}.tensorrt.fp32.{e.key[:8]}"
        assert bundle.manifest["parity"]["figures"][name] == e.parity
    built, _, _ = machine
    assert built == [None, *KEYS]
    before = snapshot(path)
    assert compile_bundle(path, target="tensorrt", batch=4) == entry
    assert built == [None, *KEYS]
    assert snapshot(path) == before


def test_a_bundle_of_plans_of_the_denoiser_alone_gets_the_others(reading_bundle, copy_of, machine):
    path = copy_of(reading_bundle)
    entry = compile_bundle(path, target="tensorrt", batch=4)

    def without_parts(manifest):
        gone = [e["file"] for e in manifest["engines"] if e.get("part")]
        manifest["engines"] = [e for e in manifest["engines"] if not e.get("part")]
        for name in gone:
            del manifest["files"][name]

    edit_manifest(path, without_parts)
    built = machine[0]
    built.clear()
    assert compile_bundle(path, target="tensorrt", batch=4) == entry
    assert built == list(KEYS)
    assert [e.part for e in Bundle.open(path).compiled_parts] == list(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_network_that_differs_leaves_the_bundle(reading_bundle, copy_of, machine, tmp_path, key):
    path = copy_of(reading_bundle)
    before = snapshot(path)
    _, wrong, _ = machine
    wrong[key] = _shifted(Bundle.open(path).part_graph(key, "fp32"), tmp_path)
    what = {"encoder.text": "the encoder 'text'"}.get(key, f"the {key.replace('_', ' ')}")
    with pytest.raises(ParityError, match=f"{what} differs from the reference by"):
        compile_bundle(path, target="tensorrt", batch=4)
    assert snapshot(path) == before
    entry = compile_bundle(path, target="tensorrt", batch=4, bounds={"forward": 9, "ddim20": 9})
    assert entry.parity[key]["error"] > 1e-3


def test_nan_is_named_and_leaves_the_bundle(reading_bundle, copy_of, machine):
    path = copy_of(reading_bundle)
    before = snapshot(path)
    machine[2].call = "nan"
    with pytest.raises(ParityError, match="the encoder 'text' gave NaN or infinity"):
        compile_bundle(path, target="tensorrt", batch=4)
    assert snapshot(path) == before


def _shifted(graph, folder):
    """The graph with 0.5 added to its first output."""
    import onnx

    model = onnx.load(graph)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [f"{name}_before" if name == output else name for name in node.output]
        node.input[:] = [f"{name}_before" if name == output else name for name in node.input]
    half = onnx.helper.make_tensor("half", onnx.TensorProto.FLOAT, [], [0.5])
    model.graph.initializer.append(half)
    model.graph.node.append(onnx.helper.make_node("Add", [f"{output}_before", "half"], [output]))
    onnx.save(model, folder / "shifted.onnx")
    return folder / "shifted.onnx"
