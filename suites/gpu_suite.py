"""The GPU suite: `python suites/gpu_suite.py --out DIR`, from a checkout, with nothing installed.

This file only makes the checkout importable: a folder of links in which the folders at the root
are one package, `revstep`. The suite itself is `suites/gpu/suite.py`; `--help` lists what it
measures.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("engine", "kernels", "export", "bench", "serve")  # pyproject.toml maps them


def make_links(root: Path, folder: Path) -> None:
    """The packages `revstep` and `suites` in `folder`, of links into the checkout."""
    kernels = folder / "revstep" / "kernels"  # no link, so that a built module can join it
    kernels.mkdir(parents=True)
    sources = {kernels: (root / "kernels").iterdir(), folder: [root / "suites"]}
    sources[kernels.parent] = [
        *(root / "src" / "revstep").iterdir(),  # a developer's own links among them
        *(root / name for name in FOLDERS if (root / name).is_dir()),
    ]
    for place, paths in sources.items():
        for path in paths:
            if path.name not in ("kernels", "__pycache__") and not (place / path.name).exists():
                (place / path.name).symlink_to(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Links, then the suite; returns its exit code."""
    if not (ROOT / "src" / "revstep").is_dir():
        print(f"{ROOT} is no checkout of revstep; run suites/gpu_suite.py there", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="revstep-gpu-suite-") as folder:
        links = Path(folder)
        make_links(ROOT, links)
        sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT / "suites"]
        sys.path.insert(0, folder)
        import revstep

        if Path(revstep.__file__).resolve().parents[2] != ROOT:
            print(
                f"another revstep comes first: {revstep.__file__}; run in an environment where "
                "revstep is not installed in editable mode",
                file=sys.stderr,
            )
            return 2
        from suites.gpu.suite import main as run

        return run(arguments, ROOT, links)


if __name__ == "__main__":
    sys.exit(main())
