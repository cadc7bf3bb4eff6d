"""What does it take to load the bundled U-Net, checked and ready to sample?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import revstep
from suites.cpu.networks import FASHION
from suites.cpu.tasks import conditions_of, noise_of
from suites.questions.compare import Compare
from suites.questions.naive import apart, session_network

torch: Any = pytest.importorskip("torch")
diffusers: Any = pytest.importorskip("diffusers")
pytest.importorskip("onnxruntime")
TIME = 500


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "unverified"])
def test_load(compare: Compare, bundle: Callable[[str, bool], Path], verify: bool) -> None:
    path = bundle("unet", False)
    opened = revstep.Bundle.open(path)
    spec, graph = opened.spec, str(opened.graph("fp32"))
    labels = conditions_of(spec, 1)

    def bare() -> Callable[..., np.ndarray]:
        if verify:
            for file in path.rglob("*"):
                if file.is_file():
                    hashlib.sha256(file.read_bytes()).hexdigest()
        return session_network(graph, spec, labels, 1.0)

    def pretrained() -> Any:
        diffusers.DDIMScheduler.from_pretrained(FASHION, subfolder="scheduler")
        model = diffusers.UNet2DModel.from_pretrained(
            FASHION, subfolder="unet", variant="fp16", torch_dtype=torch.float32
        )
        return model.eval()

    x = noise_of(spec, 1)
    with torch.no_grad():
        condition = [torch.from_numpy(value) for value in labels.values()]
        want = pretrained()(torch.from_numpy(x), TIME, *condition).sample.numpy()
    error = apart(bare()(x, TIME), want)
    assert error < 1e-3
    others = {"ONNX Runtime and hashes" if verify else "ONNX Runtime": bare,
              "diffusers": pretrained}  # fmt: skip
    name = "the bundled U-Net, files checked" if verify else "the bundled U-Net, unchecked"
    compare(
        name,
        lambda: revstep.load(path, device="cpu", threads=1, verify=verify),
        others,
        apart=error,
    )
