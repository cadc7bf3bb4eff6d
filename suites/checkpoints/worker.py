"""One kind, in a process of its own: `python -m suites.checkpoints.worker NAME ROW.json`.

The row is written anew after each stage, so that a crash costs the stage alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from suites.checkpoints.kinds import kind_named
from suites.checkpoints.stages import STAGES, said


def main(name: str, target: Path, skipped: tuple[str, ...] = ()) -> int:
    """Runs every stage that is not skipped; without an export, none of the others."""
    cells: dict[str, Any] = {}

    def write(now: str | None) -> None:
        beside = target.with_suffix(".new")
        beside.write_text(json.dumps({"stages": cells, "now": now}), encoding="utf-8")
        os.replace(beside, target)

    write("making the network")
    with tempfile.TemporaryDirectory() as folder:
        made = kind_named(name).make(Path(folder))
        for stage in STAGES:
            if stage.name in skipped or "said" in cells.get("export", {}):
                continue
            write(stage.name)
            try:
                cells[stage.name] = stage.run(made, Path(folder) / "x.revstep")
            except Exception as error:  # what it says is the result
                cells[stage.name] = {"said": said(error)}
    write(None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2]), tuple(sys.argv[3:])))
