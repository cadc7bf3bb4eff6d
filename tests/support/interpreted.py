"""The Triton kernels loaded once more, under Triton's interpreter: they then run on the CPU."""

import functools
import importlib
import sys

FILES = ("tiles", "noise", "step")


@functools.cache
def interpreted_kernels():
    """A second copy of `revstep.kernels.gpu.step`, whose functions are interpreted.

    The interpreter truncates float32 to bfloat16 where the compiled kernel rounds.
    """
    import triton

    import revstep.kernels.gpu as package

    kept = [(name, importlib.import_module(f"{package.__name__}.{name}")) for name in FILES]
    before = triton.knobs.runtime.interpret
    triton.knobs.runtime.interpret = True
    try:
        for name in FILES:
            del sys.modules[f"{package.__name__}.{name}"]
        return importlib.import_module(f"{package.__name__}.step")
    finally:
        triton.knobs.runtime.interpret = before
        for name, module in kept:
            sys.modules[module.__name__] = module
            setattr(package, name, module)
