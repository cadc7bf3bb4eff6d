"""Trained networks of other libraries: their import, weights that matter, and how far two runs are.

denoising-diffusion-pytorch imports what only its Trainer needs; where that isn't there (torchvision
beside a CPU's torch, accelerate, ema_pytorch), names without content stand in.
"""

import contextlib
import importlib
import math
import sys
import types

import numpy as np
import pytest
import torch

import revstep

TRAINER = (
    "torchvision",
    "torchvision.transforms",
    "torchvision.utils",
    "accelerate",
    "ema_pytorch",
)
WHY = "pip install it (.ci/run has the versions that CI installs)"
ROUNDING = 1e-4  # of the spread: two float32 runs of one sampler, some tens of steps


def library(name):
    """The library, or a skip with its reason."""
    if name != "denoising_diffusion_pytorch":
        return pytest.importorskip(name, reason=f"no {name} here: {WHY}")
    with stand_ins():
        return pytest.importorskip(name, reason=f"no {name} here: {WHY}")


@contextlib.contextmanager
def stand_ins():
    """Empty modules for what the Trainer imports, and gone again; what there is stays itself."""
    missing = missing_of_trainer()
    for name in missing:
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: type(attribute, (), {})
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def missing_of_trainer():
    """What denoising-diffusion-pytorch's Trainer imports and isn't there, or doesn't import."""
    return [name for name in TRAINER if not _imports(name)]


def _imports(name):
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):  # torchvision's, beside a torch that isn't its own
        for found in [n for n in sys.modules if n.split(".")[0] == name.split(".")[0]]:
            del sys.modules[found]
        return False
    return True


def lively(module, seed=1):
    """The module in eval mode, its weights drawn so that the time and every layer matter.

    Libraries begin with outputs and modulations of zero, which would hide most mistakes.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = math.prod(parameter.shape[1:])
            if parameter.ndim > 1:
                parameter.copy_(noise * math.sqrt(1.0 / fan_in))
            else:
                parameter.add_(0.2 * noise)
    return module.eval()


def asserts_time_matters(module, spec, *conditions):
    """Of two indices far apart the outputs are different networks'."""
    x = torch.randn(2, *spec.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        early, late = (module(x, torch.full((2,), t), *conditions) for t in (0.05, 0.9))
    assert distance(early, late) > 0.01


def seeded(draw, shape, seed=0):
    """(what ``draw()`` returns, its first noise): torch's generator starts anew for both."""
    torch.manual_seed(seed)
    noise = torch.randn(shape).numpy()
    torch.manual_seed(seed)
    return np.asarray(draw()), noise


def distance(got, want):
    """Largest difference, in parts of the spread of ``want``."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    spread = want.std()
    assert spread > 0.01
    return float(np.abs(got - want).max() / spread)


def bundled(path, module, spec, **parts):
    """(engine over ONNX Runtime, how far it may be off) in float32 and in half.

    In half the time embedding stays float32: halves from 512 to 1023 have steps of 0.5.
    """
    pytest.importorskip("onnxruntime")
    from revstep.export import compile_bundle, export_module

    export_module(module, spec, path, precisions=("fp32", "fp16"), **parts)
    for precision, bound in (("fp32", ROUNDING), ("fp16", 0.05)):
        compile_bundle(path, target="onnxruntime", precision=precision)
        yield revstep.load(path, precision=precision), bound
