"""Memory: flat over thousands of mixed requests, however they come and end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[2] / "support"
TRACED = 320 << 10  # bytes that may be more at the end, as caches fill: 23 requests' rows
RESIDENT = 6 << 20  # of the whole process: 440 requests' rows


@pytest.mark.skipif(sys.platform != "linux", reason="reads its memory from /proc")
@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_is_flat_over_many_mixed_requests(count):
    path = os.pathsep.join(filter(None, [str(SUPPORT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "steady_memory.py"), str(count)], capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert min(found["outcomes"].values()) > 0, found  # they ended in every way
    assert found["traced"] < TRACED, found
    assert found["resident"] < RESIDENT, found
