"""Runs of the GPU suite's sections on a CPU, and the rows they leave."""

from pathlib import Path
from time import monotonic

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_run(tmp_path):
    """Makes a section's run whose rows go to the test's folder."""
    torch = pytest.importorskip("torch")
    from suites.gpu.context import Run
    from suites.gpu.rows import Suite

    def make(*, dry=False, seconds=60.0, kind=Run, root=ROOT):
        suite = Suite(tmp_path / "rows.jsonl", "now", root, tmp_path, dry)
        return kind("kernel", suite, torch.device("cpu"), monotonic() + seconds)

    return make


@pytest.fixture
def run(make_run):
    return make_run()


@pytest.fixture
def rows_of():
    from revstep.bench.rows import read_rows

    return lambda run: read_rows(run.suite.path)
