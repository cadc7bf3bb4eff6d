"""What a wheel installs; runs where one is installed, as in CI."""

import importlib.metadata
from pathlib import Path

import pytest

import revstep


def test_proofs_suites_and_results_stay_in_the_checkout():
    files = importlib.metadata.files("revstep") or []
    package = Path(revstep.__file__)
    if package not in {Path(str(file.locate())) for file in files}:
        pytest.skip("revstep is imported from a checkout, not from an installed wheel")
    folders = {part for file in files for part in file.parts}
    assert {"engine", "kernels", "export", "bench"} <= folders
    assert folders.isdisjoint({"proofs", "suites", "results", "tests", "findings"})
    top = {file.parts[0] for file in files if file.suffix == ".py"}
    assert top == {"revstep"}
