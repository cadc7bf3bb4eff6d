"""TensorRT on a GPU: plans are checked against PyTorch, and run as the engine runs them."""

import logging

import numpy as np
import pytest
import torch

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.trt.choice import GpuModel, installed_versions, keep_kernels
from revstep.engine.backends.trt.choice import open_tensorrt as opened
from revstep.engine.bundle.reader import Bundle
from revstep.engine.open.parts import Parts
from revstep.export import Profile, compile_bundle
from revstep.export.targets.trt_compile import NOT_CHECKED

pytestmark = [pytest.mark.tensorrt, pytest.mark.gpu]


@pytest.fixture
def target():
    """The TensorRT that runs on this machine's GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    found = installed_versions()
    if "tensorrt" in found:
        return "tensorrt"
    if "tensorrt_rtx" in found and GpuModel.current().capability not in ((9, 0), (10, 0)):
        return "tensorrt_rtx"
    pytest.skip("needs a TensorRT for this GPU")


def test_plans_agree_with_pytorch_and_replay_in_a_cuda_graph(target, policy_bundle, copy_of):
    path = copy_of(policy_bundle)
    for batch in (4, Profile(1, 4, 16)):
        entry = compile_bundle(path, target=target, batch=batch)
        assert entry.parity != NOT_CHECKED
        assert entry.parity["ddim20"]["error"] < entry.parity["ddim20"]["bound"]
    bundle = Bundle.open(path)
    denoiser = opened(bundle)
    parity = bundle.parity()
    for rows in (4, 7):
        host = NetworkBuffers.allocate(bundle.spec, rows)
        tensors = NetworkBuffers(
            torch.from_numpy(parity["x"][:rows]).cuda(),
            torch.from_numpy(parity["t"][:rows]).cuda(),
            {n: torch.from_numpy(parity[f"cond.{n}"][:rows]).cuda() for n in host.conditions},
            torch.zeros(host.out.shape, device="cuda"),
        )
        call = denoiser.bind(tensors)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            call()
        stream.synchronize()
        eager = tensors.out.clone()
        scale = float(torch.from_numpy(parity["out"]).square().mean().sqrt())
        expected = torch.from_numpy(parity["out"][:rows]).cuda()
        assert float((eager - expected).abs().max()) < 1e-3 * scale
        assert denoiser.capturable is None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            call()
        tensors.out.zero_()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(tensors.out, eager)
    keep_kernels(denoiser)


def test_what_is_beside_the_denoiser_runs_in_tensorrt_too(target, reading_bundle, copy_of, caplog):
    path = copy_of(reading_bundle)
    entry = compile_bundle(path, target=target, batch=4)
    for name in ("encoder.text", "picture_encoder", "decoder", "ddim20"):
        assert entry.parity[name]["error"] <= entry.parity[name]["bound"]
    bundle = Bundle.open(path)
    assert all(isinstance(e.parity, dict) for e in bundle.compiled_parts)
    with caplog.at_level(logging.WARNING, "revstep"):
        made = Parts(bundle, target, "fp32", None, torch.device("cuda", 0))
        decoder, pictures = made.decoder(), made.picture_encoder()
        texts = made.encoders(keep=0)
    assert not caplog.messages
    assert pictures is not None
    assert texts is not None
    described = decoder.describe()
    assert (described["backend"], described["rows"]) == (target, [1, 4])
    parity = bundle.parity()
    latents, wanted = parity["ddim20.final"], parity["decoder.out"]
    scale = float(np.sqrt(np.mean(wanted**2)))
    for rows in (1, 3, len(latents), 2):  # in another order, and more than a call takes
        found = decoder(latents[:rows])
        assert np.abs(found - wanted[:rows]).max() < 1e-3 * scale


def test_parts_run_beside_a_denoiser_of_many_calls(target, reading_bundle, copy_of):
    """Each on its own stream: results don't depend on what else the GPU does."""
    import revstep

    path = copy_of(reading_bundle)
    compile_bundle(path, target=target, batch=Profile(1, 4, 8))
    engine = revstep.load(path, backend=target, device="cuda", buckets=(1, 4))
    tokens = np.arange(24).reshape(4, 6) % 30
    alone = engine.encode({"tokens": tokens})
    samples = engine.sample(inputs={"tokens": tokens}, steps=8, seed=0).x
    with revstep.Service(engine) as service:
        jobs = [
            service.submit(inputs={"tokens": tokens[k % 4]}, steps=8, seed=k) for k in range(24)
        ]
        for _ in range(20):
            again = engine.encode({"tokens": tokens})
            for name, value in alone.items():
                np.testing.assert_array_equal(again[name], value)
        for job in jobs:
            assert np.isfinite(job.result().x).all()
    np.testing.assert_allclose(
        engine.sample(inputs={"tokens": tokens}, steps=8, seed=0).x, samples, rtol=1e-3, atol=1e-4
    )
