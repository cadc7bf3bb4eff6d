"""docs/trainers.md as a program, with what its Trainer alone imports stood in for."""

import os
from pathlib import Path

from example_files import EXAMPLES
from pages import run_page
from trainers import library, missing_of_trainer

ROOT = Path(__file__).parents[2]


def test_the_page_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    for name in ("denoising_diffusion_pytorch", "azula", "monai", "diffusers", "onnxruntime"):
        library(name)
    stand_ins = tmp_path / "stand_ins"
    for name in missing_of_trainer():
        folder = stand_ins.joinpath(*name.split("."))
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(
            "def __getattr__(name):\n    return type(name, (), {})\n"
        )
    path = [str(EXAMPLES / "trainers"), str(stand_ins), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    assert run_page(ROOT / "docs" / "trainers.md", tmp_path, timeout=300) > 4
