"""Ways to run the command line: in this process, and as a process of its own."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def cli():
    """Runs a command in this process; gives exit_code, stdout, stderr."""
    from typer.testing import CliRunner

    from revstep.cli import app

    def run(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run


@pytest.fixture
def process(tmp_path):
    """Runs a command as a process of its own, in an empty folder."""

    def run(*arguments, cwd=tmp_path, timeout=120, **env):
        return subprocess.run(
            [sys.executable, "-m", "revstep", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def pixels_of():
    """Reads a picture's pixels, (H, W) or (H, W, 3) uint8."""
    Image = pytest.importorskip("PIL.Image")
    import numpy as np

    def read(path):
        with Image.open(path) as picture:
            return np.asarray(picture)

    return read


@pytest.fixture(scope="session")
def bench_file(tabular_bundle, tmp_path_factory):
    """Rows of two cells of a real ``bench run``, with all that it can measure beside baselines."""
    from typer.testing import CliRunner

    from revstep.cli import app

    path = tmp_path_factory.mktemp("bench") / "rows.jsonl"
    words = (
        *("--batch", "1,3", "--steps", "2", "--runs", "16", "--seconds", "0.3", "--noise", "0"),
        *("--deadline", "1s", "--tick", "20ms", "--cold", "1", "--output", path),
    )
    result = CliRunner().invoke(app, ["bench", *map(str, (tabular_bundle, *words))])
    assert result.exit_code == 0, result.stderr
    return path


@pytest.fixture(scope="session")
def parts_row(reading_bundle):
    """The row of a real ``bench run`` of a bundle with encoders and a decoder."""
    import json

    from typer.testing import CliRunner

    from revstep.cli import app

    pytest.importorskip("tokenizers")
    words = ("--batch", "2", "--guidance", "2", "--steps", "2", "--runs", "16", "--noise", "0",
             "--cold", "0", "--json")  # fmt: skip
    result = CliRunner().invoke(app, ["bench", str(reading_bundle), *words])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["rows"][0]
