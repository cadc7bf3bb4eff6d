"""What the extras take on a disk: `python -m suites.sizes.measure WHEEL --output FILE.jsonl`.

Each set of extras is installed by pip into an empty folder of its own, with the wheel and
everything that it needs, from where pip's own settings say: torch's CPU build needs PyTorch's CPU
index, `cuda` some GB and an index without it. `--only` takes some. What Python compiles when it is
first imported is not counted.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from revstep.bench.rows import append_row, check_appends, new_row
from suites.regressions.closure import size_of

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("cpu,serve", "openvino,serve", "cpu,openvino,serve", "cpu,export,serve", "cuda,serve")


def sizes_in(folder: Path) -> dict[str, Any]:
    """Bytes of a folder that pip installed into, as files have them.

    Returns:
        ``bytes`` of all files; ``parts``: of each distribution's, the largest first, those of
        NVIDIA as one; ``versions``: of each distribution.
    """
    parts: Counter[str] = Counter()
    versions = {}
    for found in distributions(path=[str(folder)]):
        name = found.metadata["Name"].lower()
        versions[name] = found.version
        parts["nvidia" if name.startswith(("nvidia-", "cuda-")) else name] += size_of(found)
    whole = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"bytes": whole, "parts": dict(parts.most_common()), "versions": versions}


def measure(wheel: Path, extras: str) -> dict[str, Any]:
    """The fields of a row.

    Raises:
        CalledProcessError: pip failed; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", folder,
             f"{wheel}[{extras}]"],
            check=True,
        )  # fmt: skip
        return {"extras": extras, "python": platform.python_version(), **sizes_in(Path(folder))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, write each row, and print it; the status is 1 where one is not what it is for."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.sizes.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("wheel", type=Path, help="of this build: make wheel")
    parser.add_argument("--only", nargs="+", choices=EXTRAS, default=EXTRAS, help="these extras")
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    options = parser.parse_args(arguments)
    if not options.wheel.is_file():
        parser.error(f"{options.wheel} is no wheel; make wheel writes one into dist/")
    if options.output is not None:
        check_appends(options.output)
    failed = False
    for extras in options.only:
        row = new_row("sizes", measure(options.wheel.absolute(), extras), ROOT)
        torch = row["versions"].get("torch", "")
        if "cuda" in extras and "+cpu" in torch:
            print(
                f"{extras}: pip took torch {torch}, a CPU build, which is no such size; point pip "
                "at an index with CUDA builds, and at no CPU wheels",
                file=sys.stderr,
            )
            failed = True
            continue
        print(f"{extras}: {row['bytes'] / 1e6:,.0f} MB", flush=True)
        if options.output is not None:
            append_row(options.output, row)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
