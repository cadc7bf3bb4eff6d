"""The files that one run goes through: `python -m suites.house.run_path BUNDLE`.

docs/architecture.md names those that a newcomer reads to understand it, in order.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

MODULE = "<module>"  # what a file does when it is imported is not the run's


class RunPath:
    """The files and functions of a call, in the order in which they are entered.

    Args:
        root: Only files under it count.

    Attributes:
        functions: file, relative to the root -> the functions that ran, by qualified name.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Path | None] = {}
        self.functions: dict[Path, set[str]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """What ``sys.setprofile`` calls."""
        code = frame.f_code
        if event != "call" or code.co_name == MODULE:
            return
        file = self._inside(code.co_filename)
        if file is not None and not code.co_name.startswith("<"):
            self.functions.setdefault(file, set()).add(code.co_qualname)

    def _inside(self, name: str) -> Path | None:
        if name not in self._known:
            path = Path(name)
            inside = path.is_relative_to(self._root)
            self._known[name] = path.relative_to(self._root) if inside else None
        return self._known[name]


def follow(call: Callable[[], object], root: Path) -> RunPath:
    """Runs ``call``; the files under ``root`` that it went through."""
    path = RunPath(root)
    before = sys.getprofile()
    sys.setprofile(path)
    try:
        call()
    finally:
        sys.setprofile(before)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Loads and samples a bundle on the CPU, and lists the files."""
    parser = argparse.ArgumentParser(description="The files that one CPU run goes through.")
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args(arguments)
    import revstep
    from revstep.engine.program.kept import KEPT

    def run() -> None:
        KEPT.clear()  # so that the program is traced
        revstep.load(options.bundle, device="cpu").sample(4, sampler="ddim", steps=20)

    run()  # what is imported when it is first asked for is no part of the way
    path = follow(run, Path(revstep.__file__).parent)
    for file, functions in path.functions.items():
        print(f"{file}: {len(functions)} functions")
    print(f"{len(path.functions)} files, {sum(map(len, path.functions.values()))} functions")


if __name__ == "__main__":
    main()
