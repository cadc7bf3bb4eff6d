"""The table of backends: what ``auto`` tries where, and that a further one is one entry."""

import dataclasses
import importlib.util

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from networks import NumpyDenoiser

import revstep
from revstep.engine.backends import registry
from revstep.engine.backends.registry import BACKENDS, Backend, candidates
from revstep.engine.backends.trt.packages import PACKAGES
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.open import bundle as loading
from revstep.errors import BackendError


@pytest.fixture
def bundle(tabular_bundle):
    return Bundle.open(tabular_bundle)


@pytest.fixture
def no_packages(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def with_plan(bundle, target):
    entry = CompiledEntry(
        key="0" * 32, target=target, precision="fp32", runtime=target, version="1.7",
        device="sm_89", batch=(1, 1), file="engines/x.plan", parity="no", tuned=1,
    )  # fmt: skip
    return dataclasses.replace(bundle, compiled=(entry,))


def test_a_bundle_without_plans_and_no_tensorrt_never_tries_it(bundle, no_packages):
    assert candidates(bundle, "cuda") == ["onnxruntime"]


@pytest.mark.parametrize("target", PACKAGES)
def test_a_plan_of_either_tensorrt_makes_it_the_first_on_a_gpu(bundle, no_packages, target):
    assert candidates(with_plan(bundle, target), "cuda") == ["tensorrt", "onnxruntime"]
    assert candidates(with_plan(bundle, target), "cpu") == ["onnxruntime"]


@pytest.mark.parametrize("package", PACKAGES)
def test_an_installed_tensorrt_is_tried_without_plans(bundle, monkeypatch, package):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name == package else None
    )
    assert candidates(bundle, "cuda") == ["tensorrt", "onnxruntime"]


@pytest.mark.parametrize("name", PACKAGES)
def test_tensorrt_on_a_cpu_is_refused_with_a_way_on(tabular_bundle, name):
    with pytest.raises(BackendError, match=f"'{name}' runs on NVIDIA GPUs only; use device='cuda'"):
        revstep.load(tabular_bundle, backend=name, device="cpu")


def test_a_further_backend_is_one_entry(tabular_bundle, monkeypatch):
    opened = []

    def zeros(wanted):
        opened.append((wanted.precision, wanted.threads))
        return NumpyDenoiser(wanted.bundle.spec, lambda x, t, conditions: np.zeros_like(x))

    monkeypatch.setitem(BACKENDS, "mine", Backend("Mine", on_cpu=zeros))
    monkeypatch.setattr(loading, "NAMES", (*registry.NAMES, "mine"))
    monkeypatch.setattr(loading, "driver_gpus", lambda: pytest.fail("it runs on no GPU"))
    engine = revstep.load(tabular_bundle, backend="mine", threads=2)
    assert opened == [("fp32", 2)]
    assert engine.describe()["backend"] == "numpy"
    assert np.isfinite(engine.sample(2, steps=2, seed=0).x).all()
    with pytest.raises(BackendError, match="'mine' runs on CPUs only; use device='cpu'"):
        revstep.load(tabular_bundle, backend="mine", device="cuda")


@pytest.mark.parametrize(
    ("there", "tried"),
    [
        (("onnxruntime", "openvino"), ["onnxruntime", "openvino"]),
        (("openvino",), ["openvino"]),
        ((), ["onnxruntime"]),  # which says what to install
    ],
)
def test_auto_takes_what_is_installed_on_a_cpu(bundle, monkeypatch, there, tried):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in there else None
    )
    assert candidates(bundle, "cpu") == tried
