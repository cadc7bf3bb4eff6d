"""TensorRT on a GPU: plans are checked against PyTorch, and run as the engine runs them."""

import pytest
import torch

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.trt.choice import GpuModel, installed_versions, keep_kernels
from revstep.engine.backends.trt.choice import open_tensorrt as opened
from revstep.engine.bundle.reader import Bundle
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
