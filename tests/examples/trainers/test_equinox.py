"""Equinox through jax2onnx: the file gives JAX's numbers, and its bundle JAX's samples."""

from pathlib import Path

import numpy as np
import pytest
from example_files import EXAMPLES
from trainers import ROUNDING, distance, library

import revstep

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def golden():
    """JAX's own numbers (tests/support/equinox_run.py)."""
    with np.load(HERE / "equinox.npz") as file:
        return dict(file)


def assert_as_jax(file, golden, folder):
    from revstep.export import compile_bundle, export_onnx

    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    (out,) = session.run(["output"], {"sample": golden["x"], "timestep": golden["t"]})
    assert distance(out, golden["out"]) < 1e-5

    path = folder / "denoiser.revstep"
    spec = EXAMPLES / "trainers" / "equinox_network.toml"
    export_onnx(file, spec, path, precisions=("fp32", "fp16"))
    for precision, bound in (("fp32", ROUNDING), ("fp16", 0.05)):
        compile_bundle(path, target="onnxruntime", precision=precision)
        engine = revstep.load(path, precision=precision)
        got = engine.sample(3, noise=golden["noise"], sampler="ddim", steps=20).x
        assert distance(got, golden["samples"]) < bound


def test_a_file_of_jax2onnx_gives_jaxs_samples(golden, tmp_path):
    assert_as_jax(HERE / "equinox.onnx", golden, tmp_path)


@pytest.mark.slow
def test_a_file_written_now_does_too(golden, tmp_path):
    for name in ("jax", "equinox", "jax2onnx"):
        library(name)
    import equinox_run

    example = equinox_run.imported("trainers/equinox_network.py")
    network = example.build()
    noise, samples = equinox_run.samples(network)
    assert distance(samples, golden["samples"]) < ROUNDING
    assert distance(noise, golden["noise"]) == 0
    example.write(network, str(tmp_path / "now.onnx"))
    assert_as_jax(tmp_path / "now.onnx", golden, tmp_path)
