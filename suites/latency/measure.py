"""What `revstep bench` says of the bundled denoiser: `python -m suites.latency.measure`.

    python -m suites.latency.measure --output bench/results/latency.jsonl

Exports and compiles it, then runs `revstep bench run` and `revstep bench serve` as one types them,
in processes of their own. Their rows are kept whole, with the command that gave them. It takes five
minutes, on a machine that does nothing else: a core for the network, and one for the requests.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from revstep.bench.rows import append_row, check_appends, read_rows
from suites.cpu.turns import ROOT, Failed
from suites.latency.commands import ASKED, MADE, Command

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the commands; at the end, however it ends, the file gets their rows."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.latency.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [command.question for command in ASKED]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these alone")
    parser.add_argument("--output", type=Path, help="append the rows to this .jsonl file")
    options = parser.parse_args(arguments)
    if options.output is not None:
        check_appends(options.output)
    run = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for command in MADE:
                execute(command, Path(folder))
            for command in (c for c in ASKED if c.question in options.only):
                rows += rows_of(command, Path(folder), run)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    finally:  # not before: the checkout's commit, which each row has, would be a changed one
        for row in rows if options.output is not None else ():
            append_row(options.output, row)
    return 0


def rows_of(command: Command, folder: Path, run: str) -> Iterator[Row]:
    """The rows that a command gives, with itself.

    Args:
        command: Of ``ASKED``.
        folder: Where the bundle lies.
        run: The time at which all of them began.

    Raises:
        Failed: It did not end well.
    """
    output = folder / f"{command.question}.jsonl"
    execute(command, folder, "--output", str(output))
    told = {"suite": "latency", "question": command.question, "command": str(command), "run": run}
    for row in read_rows(output):
        yield {**told, **row}


def execute(command: Command, folder: Path, *more: str) -> None:
    """Runs a command in a process of its own, in the checkout, which rows name by its commit.

    Raises:
        Failed: It did not end well.
    """
    print(f"$ {command}", flush=True)
    words = [sys.executable, "-m", "revstep", *command.words_in(folder), *more]
    done = subprocess.run(words, cwd=ROOT, check=False)
    if done.returncode:
        raise Failed(f"{command}: exit code {done.returncode}")


if __name__ == "__main__":
    raise SystemExit(main())
