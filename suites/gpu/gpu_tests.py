"""The repository's own tests that need a GPU, run by pytest in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from suites.gpu.context import Run

__all__ = ["measure_tests"]

MARK = "mark.gpu"


def measure_tests(run: Run) -> None:
    """One row: how many fail. A dry run only collects them."""
    run.attempt("tests marked gpu", 20, _tests)


def _tests(run: Run) -> None:
    name = "tests marked gpu"
    if importlib.util.find_spec("pytest") is None:
        run.skip(name, "pytest is not installed")
        return
    # only the files that have some: others may need packages that are not there
    files = [p for p in sorted((run.root / "tests").rglob("test_*.py")) if MARK in p.read_text()]
    files = run.pick(files, files[-1:])
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
            *(["--collect-only"] if run.dry else [f"--junitxml={report}"]), *map(str, files),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(run.links)}
        seconds = max(10.0, run.left())
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, cwd=run.root,
                timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            told = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
            last = (told.strip().splitlines() or ["no test had ended"])[-1][-200:]
            raise RuntimeError(f"the tests took more than {seconds:.0f} s; last: {last}") from None
        if run.dry:
            _collected(run, name, done)
            return
        if not report.exists():
            raise RuntimeError(f"pytest ended with code {done.returncode}: {_tail(done)}")
        counts = _counts(report)
    bad = counts["failed"]
    if bad:
        print(done.stdout, file=sys.stderr)
    run.differing(
        name, bad, "failing tests",
        reason=_tail(done),
        parameters={**counts, "files": [p.relative_to(run.root).as_posix() for p in files]},
    )  # fmt: skip


def _collected(run: Run, name: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise RuntimeError(f"pytest ended with code {done.returncode}: {_tail(done)}")
    run.measured(name, done.stdout.count("::"), "tests collected", exact=True)


def _counts(report: Path) -> dict[str, int]:
    suites = list(ET.parse(report).getroot().iter("testsuite"))
    total, skipped, *bad = (
        sum(int(suite.get(key, 0)) for suite in suites)
        for key in ("tests", "skipped", "failures", "errors")
    )
    return {"passed": total - skipped - sum(bad), "failed": sum(bad), "skipped": skipped}


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return " / ".join(lines[-3:])[-500:] or "no output"
