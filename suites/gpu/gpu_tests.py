"""The repository's own tests that need a GPU, run by pytest in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

from suites.gpu.context import Run

NAME = "tests marked gpu"
MARK = "mark.gpu"
ALL_PASSED, SOME_FAILED = 0, 1  # pytest's exit codes


def measure_tests(run: Run) -> None:
    """One row: how many fail. A dry run only collects them."""
    run.attempt(NAME, 20, _tests)


def _tests(run: Run) -> None:
    if importlib.util.find_spec("pytest") is None:
        run.skip(NAME, "pytest is not installed")
        return
    root = run.suite.root
    # only the files that have some: others may need packages that are not there
    files = [p for p in sorted((root / "tests").rglob("test_*.py")) if MARK in p.read_text()]
    files = run.pick(files, files[-1:])
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    command += [*run.pick((), ("--collect-only",)), *map(str, files)]
    seconds = max(10.0, run.left())
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        text = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        last = (text.strip().splitlines() or ["no test had ended"])[-1][-200:]
        raise RuntimeError(f"the tests took more than {seconds:.0f} s; last: {last}") from None
    end = " / ".join((done.stdout + done.stderr).strip().splitlines()[-3:])[-500:] or "no output"
    if done.returncode not in run.pick((ALL_PASSED, SOME_FAILED), (ALL_PASSED,)):
        raise RuntimeError(f"pytest ended with code {done.returncode}: {end}")
    if run.dry:
        run.measured(NAME, done.stdout.count("::"), "tests collected", exact=True)
        return
    counts = _counts(done.stdout)
    if counts["failed"]:
        print(done.stdout, file=sys.stderr)
    files_of = [p.relative_to(root).as_posix() for p in files]
    run.differing(
        NAME, counts["failed"], "failing tests", reason=end, parameters=counts | {"files": files_of}
    )


def _counts(output: str) -> dict[str, int]:
    """From pytest's last line: `1 failed, 2 passed, 1 error in 0.1s`."""
    last = output.strip().splitlines()[-1]
    found = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = found.get("failed", 0) + found.get("error", 0)
    return {"passed": found.get("passed", 0), "failed": failed, "skipped": found.get("skipped", 0)}
