"""Equinox through jax2onnx: the file gives JAX's numbers, and the engine JAX's samples."""

from pathlib import Path

import numpy as np
import pytest
from networks import NumpyDenoiser
from trainers import ROUNDING, distance, library

import revstep

ort = pytest.importorskip("onnxruntime")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def golden():
    """JAX's own numbers (tests/support/equinox_run.py)."""
    with np.load(HERE / "equinox.npz") as file:
        return dict(file)


def assert_as_jax(file, golden):
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])

    def network(x, t, conditions):
        assert not conditions
        return session.run(["output"], {"sample": x, "timestep": t})[0]

    assert distance(network(golden["x"], golden["t"], {}), golden["out"]) < 1e-5
    spec = revstep.DenoiserSpec(
        shape=(1, 8, 8),
        schedule=revstep.schedules.VPSchedule(betas="squaredcos_cap_v2"),
        prediction="v_prediction",
    )
    engine = revstep.Engine(NumpyDenoiser(spec, network))
    got = engine.sample(3, noise=golden["noise"], sampler="ddim", steps=20).x
    assert distance(got, golden["samples"]) < ROUNDING


def test_the_file_of_jax2onnx_gives_jaxs_numbers(golden):
    assert_as_jax(HERE / "equinox.onnx", golden)


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
    assert_as_jax(tmp_path / "now.onnx", golden)
