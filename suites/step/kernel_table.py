"""What the compiled step is made of: `python -m suites.step.kernel_table`.

Compiles the Triton kernels ahead of time (no GPU) and reads the machine code: registers, spills,
shared memory, instructions, and the width of global memory accesses. Nothing here is a time.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from revstep.kernels.gpu.aot import CAPABILITIES, Variant, compile_variant
from revstep.kernels.gpu.launch import WARPS

TABLE = Path("bench") / "results" / "kernel_table.json"
PAGE = Path("docs") / "kernels.md"
VARIANTS = (
    Variant("begin_step"),
    Variant("begin_step", two_times=True),
    Variant("normal_fill"),
    Variant(dtype="float32", history=0),
    Variant(dtype="float16", history=0),
    Variant(dtype="bfloat16", history=0),
    Variant(dtype="float16", history=1),
    Variant(dtype="float16", history=1, calls=256),
    Variant(dtype="float32", history=1, calls=256),
    Variant(dtype="float16", history=3),
    Variant(dtype="float32", history=3),
    Variant(dtype="float32", history=3, x0=True, inpaint=True, learned=True),
    Variant(dtype="float16", history=1, aligned=False),
)
HEADINGS = {
    "kernel": "kernel", "target": "target", "registers": "registers",
    "spilled_bytes": "spilled bytes", "shared_bytes": "shared bytes",
    "instructions": "instructions", "instructions_per_element": "per element",
    "loads_128": "128-bit loads", "stores_128": "128-bit stores", "other_accesses": "others",
}  # fmt: skip

INTRODUCTION = """\
# Compiled kernels

Written by `python -m suites.step.kernel_table`, with Triton {triton}. The Triton kernels were
compiled ahead of time, without a GPU; the figures are read from the machine code; none is a
time. *Instructions* counts every instruction in the code once, whatever a table row skips, so
*per element* is an upper bound of what one element costs. State, history, masks and float32
outputs are accessed with 128 bits; *others* are the table's pairs of columns, seeds and maps,
flags, and 16-bit outputs (64 bits per thread). `h1` has one history, `c128` 128 noise calls per
block (4 elements per thread), `tail` a sample whose elements are no multiple of 4.

"""


def inspect_variant(variant: Variant, capability: int) -> dict[str, Any]:
    """One row of the table.

    Args:
        variant: What to compile.
        capability: The target, 80 for sm_80.

    Returns:
        Name, target, and what the machine code holds.

    Raises:
        ImportError: Triton is not installed.
    """
    code = compile_variant(variant, capability)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(code.cubin)
        usage = _tool("cuobjdump", "--dump-resource-usage", str(cubin))
        sass = _tool("nvdisasm", "-c", str(cubin))
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump gave no resource usage: {usage!r}")
    registers, stack, shared, local = map(int, found.groups())
    pattern = r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)"
    instructions = Counter(name for name in re.findall(pattern, sass) if name != "NOP")
    spills = sum(n for name, n in instructions.items() if name.startswith(("LDL", "STL")))
    total = sum(instructions.values())
    elements = 4 * variant.calls / (32 * WARPS)
    loads, stores = _accesses(instructions, "LDG"), _accesses(instructions, "STG")
    return {
        "kernel": variant.name,
        "target": f"sm_{capability}",
        "registers": registers,
        "spilled_bytes": stack + local + 4 * spills,
        "shared_bytes": shared + code.shared,
        "instructions": total,
        "instructions_per_element": (
            None if variant.kernel == "begin_step" else round(total / elements, 1)
        ),
        "loads_128": loads.pop("128", 0),
        "stores_128": stores.pop("128", 0),
        "other_accesses": sum(loads.values()) + sum(stores.values()),
    }


def _accesses(instructions: Counter[str], kind: str) -> Counter[str]:
    """Global accesses by width in bits."""
    widths: Counter[str] = Counter()
    for name, count in instructions.items():
        if name.startswith(kind):
            wide = re.search(r"\.(64|128|256)\b", name)
            widths[wide[1] if wide else "32"] += count
    return widths


def _tool(name: str, *arguments: str) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    done = subprocess.run([str(path), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def page(triton_version: str, rows: Iterable[dict[str, Any]]) -> str:
    """The table as a page of documentation."""
    lines = [
        "| " + " | ".join(HEADINGS.values()) + " |",
        "|---|---|" + "---:|" * (len(HEADINGS) - 2),
    ]
    for row in rows:
        values = ("" if row[key] is None else row[key] for key in HEADINGS)
        lines.append("| " + " | ".join(map(str, values)) + " |")
    return INTRODUCTION.format(triton=triton_version) + "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile, read, and write the table into the checkout in the current directory."""
    parser = argparse.ArgumentParser(prog="python -m suites.step.kernel_table")
    parser.add_argument("--table", type=Path, default=TABLE, help="JSON to write")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown page to write")
    options = parser.parse_args(arguments)
    import triton

    rows = [inspect_variant(v, capability) for v in VARIANTS for capability in CAPABILITIES]
    options.table.parent.mkdir(parents=True, exist_ok=True)
    table = {"triton": triton.__version__, "rows": rows}
    options.table.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    options.page.write_text(page(triton.__version__, rows), encoding="utf-8")
    print(page(triton.__version__, rows))


if __name__ == "__main__":
    main()
