"""What do normals cost in each instruction set, beside numpy's and torch's?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from revstep.kernels import native_isas, normal_fill
from revstep.kernels.noise import STREAM_STEP
from suites.questions.compare import Compare

torch: Any = pytest.importorskip("torch")
SHAPE = (64, 3072)


@pytest.mark.parametrize("isa", native_isas() or (None,))
def test_noise(compare: Compare, isa: str | None) -> None:
    out, want = np.empty((2, *SHAPE), np.float32)
    seed = np.arange(SHAPE[0], dtype=np.uint64)
    normal_fill(out, seed, 7, STREAM_STEP, isa=isa)
    normal_fill(want, seed, 7, STREAM_STEP, backend="reference")
    np.testing.assert_array_equal(out.view(np.uint32), want.view(np.uint32))
    draw, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    tensor = torch.empty(SHAPE)
    others: dict[str, Callable[[], Any]] = {
        "numpy": lambda: draw.standard_normal(dtype=np.float32, out=want),
        "torch": lambda: tensor.normal_(generator=generator),
    }
    for other in others.values():
        other()
    for found in (out, want, tensor.numpy()):
        assert abs(found.std() - 1.0) < 0.01
    compare(
        f"{out.size:,} normals, {isa or 'reference'}",
        lambda: normal_fill(out, seed, 7, STREAM_STEP, isa=isa), others,
    )  # fmt: skip
