"""What the ``openvino`` backend refuses: before any work, by what was got and how to fix it."""

import dataclasses
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import every_dtype

import revstep
from revstep import Condition
from revstep.engine.backends.ov import library
from revstep.engine.bundle.reader import Bundle
from revstep.errors import BackendError

if not library.installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from revstep.engine.backends.ov.denoiser import OpenVinoDenoiser


@pytest.fixture
def bundles(tabular_bundle, policy_bundle, image_bundle):
    return {"tabular": tabular_bundle, "policy": policy_bundle, "image": image_bundle}


def loaded(bundle, **options):
    return revstep.load(bundle, **{"backend": "openvino", "device": "cpu", **options})


def test_a_precision_that_was_not_taken_is_refused(monkeypatch):
    class Compiled:
        def get_property(self, name):
            return library.openvino().Type.bf16

    with pytest.raises(BackendError, match="in bf16, not in f32 as asked"):
        library.check_taken(Compiled(), "fp32")


@pytest.mark.parametrize("name", ["image", "tabular"])
def test_fp16_is_refused_by_name_whether_the_bundle_holds_it_or_not(bundles, name):
    with pytest.raises(BackendError, match=r"no fp16 products on a CPU.*precision='fp32'"):
        loaded(bundles[name], precision="fp16")


def test_bf16_without_hardware_is_refused_by_name(bundles, monkeypatch):
    monkeypatch.setattr(library, "has_bf16", lambda: False)
    with pytest.raises(BackendError, match=r"no bf16 products.*precision='fp32'"):
        loaded(bundles["tabular"], precision="bf16")


def test_bf16_of_a_wrong_version_is_refused_by_name(bundles, monkeypatch):
    monkeypatch.setattr(library, "has_bf16", lambda: True)
    monkeypatch.setattr(library, "version", lambda: "2026.2.1")
    with pytest.raises(BackendError, match=r"2026\.2\.1 gives NaN.*revstep\[openvino\]"):
        loaded(bundles["tabular"], precision="bf16")


def test_a_graph_of_another_spec_is_refused(bundles):
    graph = Bundle.open(bundles["policy"]).graph("fp32")
    for other in ("tabular", "image"):
        with pytest.raises(BackendError, match="export the bundle again"):
            OpenVinoDenoiser(graph, Bundle.open(bundles[other]).spec)
    spec = Bundle.open(bundles["policy"]).spec
    with pytest.raises(BackendError, match=r"\(8, 2\) per row; the spec says \(4, 2\)"):
        OpenVinoDenoiser(graph, dataclasses.replace(spec, shape=(4, 2)))


def test_what_is_no_graph_is_refused_with_the_file(tmp_path, bundles):
    file = tmp_path / "denoiser.fp32.onnx"
    file.write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"OpenVINO .* can't load .*denoiser\.fp32\.onnx"):
        OpenVinoDenoiser(file, Bundle.open(bundles["tabular"]).spec)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_bad_threads_are_refused(bundles, threads):
    with pytest.raises((ValueError, TypeError), match="threads"):
        loaded(bundles["tabular"], threads=threads)


def test_a_missing_package_is_named_with_its_extra(bundles, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"pip install 'revstep\[openvino\]'"):
        loaded(bundles["tabular"])


def test_an_error_of_a_run_names_the_library_and_an_open_condition():
    label = Condition(name="label", dtype="int64", shape=())
    denoiser = object.__new__(OpenVinoDenoiser)
    denoiser.spec = every_dtype.spec(label)
    with pytest.raises(BackendError, match=r"OpenVINO .* failed: out of range.*'label'"):
        raise denoiser._failed(RuntimeError("out of range"))
