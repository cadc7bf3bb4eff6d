"""The worker of `gpu_kernels`: it compiles the table's kernels, and prints their rows as JSON.

Arguments are names of kernels; none: all of them.
"""

from __future__ import annotations

import json
import sys

from revstep.kernels.gpu.aot import CAPABILITIES
from suites.step.kernel_table import VARIANTS, inspect_variant


def main() -> None:
    """Compile, read, print."""
    chosen = [v for v in VARIANTS if v.name in (sys.argv[1:] or [v.name])]
    print(json.dumps([inspect_variant(v, c) for v in chosen for c in CAPABILITIES]))


if __name__ == "__main__":
    main()
