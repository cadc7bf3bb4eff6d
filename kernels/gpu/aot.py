"""The Triton kernels compiled ahead of time: PTX that any GPU from sm_80 on takes, and cubins.

Compiling needs Triton, but no GPU and no driver. What is written is launched by
`revstep.kernels.gpu.cubin`, without Triton and without a C compiler.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from revstep.kernels.gpu.launch import (
    BEGIN_SLOTS,
    LARGE_CALLS,
    LARGE_HISTORY,
    OPTIONS,
    SMALL_CALLS,
    WARPS,
)
from revstep.kernels.layout import HISTORY_TIERS

FORMAT = 1
INDEX = "kernels.json"
PORTABLE = 80  # its PTX runs on every later GPU; code of sm_90 and later is for one GPU only
PORTABLE_PTX_VERSION = 80  # PTX 8.0: drivers of CUDA 12.0 and later
CAPABILITIES = (80, 90, 100, 120)
KNOWN = (80, 86, 87, 89, 90, 100, 103, 110, 120, 121)  # Triton crashes on numbers it doesn't know
SOURCES = ("../columns.py", "launch.py", "step.py", "tiles.py", "noise.py")

_ELEMENT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_POINTERS = {
    "table": "*i64", "base": "*i32", "length": "*i32", "counter": "*i32", "current": "*i32",
    "seed": "*i64", "guidance": "*fp32", "cond_row": "*i32", "uncond_row": "*i32", "flags": "*i32",
    "x": "*fp32", "q1": "*fp32", "q2": "*fp32", "q3": "*fp32", "x0_out": "*fp32", "mask": "*fp32",
    "known": "*fp32", "net_t": "*fp32", "net_t2": "*fp32", "out": "*fp32", "index_of": "*i32",
}  # fmt: skip
_ALIGNED = frozenset(
    {"table", "x", "output", "net_x", "q1", "q2", "q3", "x0_out", "mask", "known", "out"}
)


@dataclass(frozen=True)
class Variant:
    """One specialisation of one kernel.

    Attributes:
        kernel: "begin_step", "fused_step" or "normal_fill".
        dtype: The network's dtype: "float32", "float16" or "bfloat16".
        aligned: D is a multiple of 4.
        history: Arrays of history, 0..3.
        x0: x0 is written out.
        inpaint: There is a mask.
        learned: The network gives a variance.
        calls: Philox calls of a block.
        two_times: The network takes a second time.
    """

    kernel: str = "fused_step"
    dtype: str = "float32"
    aligned: bool = True
    history: int = 1
    x0: bool = False
    inpaint: bool = False
    learned: bool = False
    calls: int = SMALL_CALLS
    two_times: bool = False

    @property
    def name(self) -> str:
        """Name of the variant's files."""
        if self.kernel == "begin_step":
            return f"{self.kernel}-two_times" if self.two_times else self.kernel
        parts = [self.kernel]
        if self.kernel == "fused_step":
            parts += [_ELEMENT[self.dtype], f"h{self.history}"]
            parts += [name for name in ("x0", "inpaint", "learned") if getattr(self, name)]
        return "-".join([*parts, *(() if self.aligned else ("tail",)), f"c{self.calls}"])

    @property
    def constants(self) -> dict[str, Any]:
        """The kernel's compile-time constants."""
        if self.kernel == "begin_step":
            return {"SLOTS": BEGIN_SLOTS, "SECOND": self.two_times}
        if self.kernel == "normal_fill":
            return {"ALIGNED": self.aligned, "PER_SAMPLE": False, "CALLS": self.calls}
        return {
            "ALIGNED": self.aligned, "HISTORY": self.history, "X0": self.x0,
            "INPAINT": self.inpaint, "LEARNED": self.learned, "CALLS": self.calls,
        }  # fmt: skip


class Code(NamedTuple):
    """A compiled kernel.

    Attributes:
        entry: Name of the function.
        ptx: PTX text.
        cubin: Machine code of one target.
        shared: Bytes of dynamic shared memory.
        scratch: Further pointers after the arguments (null at the launch).
    """

    entry: str
    ptx: str
    cubin: bytes
    shared: int
    scratch: int


def compile_variant(variant: Variant, capability: int) -> Code:
    """Compile one variant for a GPU of that compute capability (80: 8.0).

    Raises:
        ImportError: Triton is not installed.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from revstep.kernels.gpu import step as step_kernels

    kernel = getattr(step_kernels, f"{variant.kernel}_kernel")
    constants = variant.constants
    network = {"output": f"*{_ELEMENT[variant.dtype]}", "net_x": f"*{_ELEMENT[variant.dtype]}"}
    names: list[str] = list(kernel.arg_names)
    signature = {
        name: "constexpr" if name in constants else (_POINTERS | network).get(name, "i32")
        for name in names
    }
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in _ALIGNED},
    )
    options = dict(OPTIONS)
    if capability == PORTABLE:
        options["ptx_version"] = PORTABLE_PTX_VERSION
    with triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = True  # it would hold this machine's paths
        done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = str(done.asm["ptx"])
    parameters = len(re.findall(rf"\.param .*{done.metadata.name}_param_\d+", ptx))
    arguments = sum(kind != "constexpr" for kind in signature.values())
    return Code(
        entry=done.metadata.name,
        ptx=ptx,
        cubin=bytes(done.asm["cubin"]),
        shared=done.metadata.shared,
        scratch=parameters - arguments,
    )


def variants_for(
    dtype: str, elements: int, *, learned: bool, two_times: bool = False
) -> Iterator[Variant]:
    """The variants that a bundle's buffers can need.

    Args:
        dtype: The network's dtype.
        elements: D, the elements of a sample.
        learned: The network gives a variance.
        two_times: The network takes a second time.
    """
    if dtype not in _ELEMENT:
        raise ValueError(f"dtype is {dtype!r}; it must be one of {', '.join(_ELEMENT)}")
    aligned = elements % 4 == 0
    yield Variant("begin_step", two_times=two_times)
    yield Variant("normal_fill", aligned=aligned)
    for history, x0, inpaint in itertools.product(HISTORY_TIERS, (False, True), (False, True)):
        sizes = (SMALL_CALLS, LARGE_CALLS) if history <= LARGE_HISTORY else (SMALL_CALLS,)
        for calls in sizes:
            yield Variant("fused_step", dtype, aligned, history, x0, inpaint, learned, calls)


def write_kernels(
    folder: Path,
    dtypes: Sequence[str],
    elements: int,
    *,
    learned: bool = False,
    two_times: bool = False,
    capabilities: Sequence[int] = CAPABILITIES,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[str]:
    """Compile a bundle's kernels into a folder, with their index `kernels.json`.

    Args:
        folder: Created if it is missing; files of the same names are replaced.
        dtypes: The network's dtypes ("float32", "float16", "bfloat16").
        elements: D, the elements of a sample.
        learned: The network gives a variance.
        two_times: The network takes a second time.
        capabilities: GPUs to make machine code for (80: 8.0); the portable PTX is always written.
        progress: Called with (the kernel's name, done, total).

    Returns:
        The names of the files, the index last.

    Raises:
        ImportError: Triton is not installed.
        ValueError: An unknown dtype or capability.
    """
    import triton

    if unknown := sorted(set(capabilities) - set(KNOWN)):
        raise ValueError(
            f"no kernels can be compiled for {', '.join(f'sm_{c}' for c in unknown)}; allowed: "
            f"{', '.join(f'sm_{c}' for c in KNOWN)} (the portable PTX runs on all later GPUs)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    variants = {
        variant
        for dtype in dtypes
        for variant in variants_for(dtype, elements, learned=learned, two_times=two_times)
    }
    entries: dict[str, Any] = {}
    files: list[str] = []
    for done, variant in enumerate(sorted(variants, key=lambda v: v.name)):
        if progress is not None:
            progress(variant.name, done, len(variants))
        portable = compile_variant(variant, PORTABLE)
        written: dict[str, str] = {"ptx": f"{variant.name}.ptx"}
        (folder / written["ptx"]).write_text(portable.ptx, encoding="utf-8")
        for capability in capabilities:
            code = portable if capability == PORTABLE else compile_variant(variant, capability)
            written[f"sm_{capability}"] = f"{variant.name}.sm_{capability}.cubin"
            (folder / written[f"sm_{capability}"]).write_bytes(code.cubin)
        files += written.values()
        entries[variant.name] = {
            "entry": portable.entry,
            "shared": portable.shared,
            "scratch": portable.scratch,
            "files": written,
        }
    if progress is not None:
        progress(INDEX, len(variants), len(variants))
    index = {
        "format": FORMAT,
        "triton": triton.__version__,
        "source_sha256": source_digest(),
        "threads": 32 * WARPS,
        "kernels": entries,
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return [*files, INDEX]


def source_digest() -> str:
    """sha256 of what the compiled code depends on: code of another digest is stale."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()
