"""The Triton kernels loaded once more, under Triton's interpreter: they then run on the CPU."""

import functools
import importlib.util


@functools.cache
def interpreted_kernels():
    """A second copy of `revstep.kernels.step_kernels`, whose functions are interpreted.

    The interpreter truncates float32 to bfloat16 where the compiled kernel rounds.
    """
    import triton

    spec = importlib.util.find_spec("revstep.kernels.step_kernels")
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_file_location("interpreted_step_kernels", spec.origin)
    )
    before = triton.knobs.runtime.interpret
    triton.knobs.runtime.interpret = True
    try:
        module.__spec__.loader.exec_module(module)
    finally:
        triton.knobs.runtime.interpret = before
    return module
