"""The suite's command: options, one process per section, the clock, and the table at the end."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from revstep.bench.rows import read_rows
from revstep.engine.devices.choose import cuda_device
from revstep.engine.errors import BackendError
from suites.gpu.native import add_native
from suites.gpu.rows import FIELDS, Suite
from suites.gpu.sections import SECTIONS, command
from suites.gpu.table import markdown_table, summary, text_table

TOTAL_SECONDS = 470  # of the 8 minutes; the rest is for the start and the table
GRACE = 8  # a section that has not ended so long after its time is stopped
MIN_SECONDS = 12  # no section starts with less
FILE = "gpu_suite.jsonl"
FAILED, WRONG_USE, NO_GPU, INTERRUPTED = 1, 2, 3, 130
CODES = f"""\
exit codes: 0 all ran (skipped parts and missed targets are in the rows); {FAILED} a part failed or
bits differ; {WRONG_USE} wrong use; {NO_GPU} no GPU, and no --dry-run; {INTERRUPTED} ended by a
second Ctrl-C. One Ctrl-C ends the section that runs; the next one begins.
"""


def main(arguments: Sequence[str] | None, root: Path, links: Path) -> int:
    """Runs the suite or prints a table; returns the exit code.

    Args:
        arguments: Of the command line; None: this process's.
        root: The checkout.
        links: The folder that revstep is imported from.
    """
    begun = monotonic()
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.table:
        try:
            tables = (read_rows(path, FIELDS) for path in options.table)
            print(markdown_table([row for rows in tables for row in rows]))
        except (OSError, ValueError) as error:
            parser.error(str(error))
        return 0
    if options.out is None:
        parser.error("--out DIR is needed: the rows go to DIR/" + FILE)
    if options.seconds <= 0:
        parser.error(f"--seconds {options.seconds:g} must be above 0")
    names = _chosen(parser, options.only)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out} can't be made ({error}); name another folder")
    path = options.out.resolve() / FILE
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    print(add_native(root, links, build=not options.no_build), flush=True)
    suite = Suite(path, started, root, links, options.dry_run, options.commit)
    try:
        before = len(read_rows(path, FIELDS)) if path.exists() else 0
    except ValueError as error:
        parser.error(f"{error}; move the file away, or name another --out")
    if not options.dry_run and (why := no_gpu()):
        suite.add("suite", "the suite", "skipped", reason=why)
        print(f"{why}\nWithout a GPU, --dry-run runs the same code on a CPU.", file=sys.stderr)
        return NO_GPU
    try:
        code = _run_all(names, suite, begun + options.seconds)
    except KeyboardInterrupt:  # between two sections
        code = INTERRUPTED
    made = read_rows(path, FIELDS)[before:]
    print(f"{text_table(made)}\n\n{summary(made)}\nrows: {path}")
    return code or int(any(row["status"] == "failed" for row in made))


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<13} {section.what}" for name, section in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python suites/gpu_suite.py",
        description="Measures revstep on this machine's GPU, from a checkout, within 8 minutes; "
        "one JSON row per result, written as soon as it is there.",
        epilog=f"sections, in their order:\n{listed}\n\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"rows are added to DIR/{FILE}")
    parser.add_argument("--only", metavar="A,B", help="only these sections")
    parser.add_argument(
        "--dry-run", action="store_true",
        help="run the code on a CPU, with tiny sizes; the rows hold no figures",
    )  # fmt: skip
    parser.add_argument(
        "--seconds",
        type=float,
        default=TOTAL_SECONDS,
        help="time in all, the native kernels' build included (default: %(default)s)",
    )
    parser.add_argument(
        "--no-build", action="store_true", help="never build the native CPU kernels"
    )
    parser.add_argument(
        "--commit", metavar="ID", help="the commit for the rows, where the checkout has no .git"
    )
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="FILE",
        help="print a Markdown table of the rows in these files, and run nothing",
    )  # fmt: skip
    return parser


def _chosen(parser: argparse.ArgumentParser, only: str | None) -> list[str]:
    if only is None:
        return list(SECTIONS)
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown or not wanted:
        what = f"unknown section {', '.join(unknown)}" if unknown else "no section is named"
        parser.error(f"--only {only}: {what}; allowed: {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in wanted]


def no_gpu() -> str | None:
    """Why the suite can't measure here, or None."""
    try:
        cuda_device("cuda:0")  # a number: asking for the current one would start CUDA here
    except BackendError as error:
        return str(error)
    return None


def _run_all(names: list[str], suite: Suite, end: float) -> int:
    """Every section in its own process; a dry run shares one, for nothing can be poisoned there."""
    code = 0
    for group in [names] if suite.dry else [[name] for name in names]:
        seconds = min(sum(SECTIONS[name].seconds for name in group), end - monotonic())
        if seconds < MIN_SECONDS and not suite.dry:
            suite.add(group[0], group[0], "skipped", reason="time: the suite's time is over")
            continue
        print(f"{', '.join(group)}: up to {seconds:.0f} s", flush=True)
        limit = max(seconds, 1.0) + GRACE
        try:
            process = command(suite, group, monotonic() + seconds)
            why = run_process(process, suite.links, limit)
        except KeyboardInterrupt:
            if _second_interrupt():
                suite.add(group[0], group[0], "failed", reason="ended by Ctrl-C")
                return INTERRUPTED
            why = "ended by Ctrl-C"
        if why is not None:
            suite.add(group[0], group[0], "failed", reason=why)
            code = FAILED
    return code


def run_process(arguments: Sequence[str], links: Path, limit: float) -> str | None:
    """Runs a section's process and all that it starts; returns why it ended badly, or None.

    A code of 1 is a case that failed, which has its own row.
    """
    own = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = os.pathsep.join([str(links), *map(os.path.abspath, own)])  # it starts in another folder
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        arguments, env=environment, cwd=links, start_new_session=True, stdout=sys.stderr
    ) as process:
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            return f"time: it had not ended after {limit:.0f} s and was stopped"
        finally:
            _stop(process)
    if code in (0, FAILED):
        return None
    return f"its process ended with {f'signal {-code}' if code < 0 else f'code {code}'}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of its process group: compilers' workers, pytest."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _second_interrupt() -> bool:
    """Whether another Ctrl-C comes within a second and a half."""
    print("Ctrl-C: the next section begins; once more ends the suite", file=sys.stderr)
    try:
        sleep(1.5)
    except KeyboardInterrupt:
        return True
    return False
