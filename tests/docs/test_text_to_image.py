"""The page of text to image is a program over a small pipeline's bundle; its commands run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import run_page

PAGE = Path(__file__).parents[2] / "docs" / "text-to-image.md"


@pytest.fixture
def folder(pipeline_bundle, tmp_path):
    """Where the page's bundle lies."""
    pytest.importorskip("tokenizers")
    shutil.copytree(pipeline_bundle("stable_diffusion"), tmp_path / "sd.revstep")
    return tmp_path


def test_the_page_runs_and_prints_what_it_shows(folder):
    assert run_page(PAGE, folder, timeout=600) > 4
    assert (folder / "fox.png").read_bytes().startswith(b"\x89PNG")


def test_its_commands_for_a_bundle_draw_a_picture(folder):
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for line in block.splitlines() if "sd.revstep" in line and "export" not in line]
    assert [shlex.split(line)[1] for line in lines] == ["compile", "sample"]
    for line in lines:
        command = [sys.executable, "-m", *shlex.split(line)]
        subprocess.run(command, check=True, cwd=folder, capture_output=True)
    assert (folder / "fox.png").read_bytes().startswith(b"\x89PNG")


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / target).exists(), target
