"""Ranges are taken where the tensors are made, and no tensor is kept for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "support" / "range_memory.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of its memory from /proc")
def test_ranges_take_a_part_of_what_all_tensors_would(tmp_path):
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tensors"] > 300 << 20
    assert found["grown"] < found["tensors"] / 2, found  # a quarter; 1.6 where all are kept
