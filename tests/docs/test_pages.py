"""The pages that are programs: they run, print what they show, and check under mypy."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from networks import NumpyDenoiser
from pages import program_of, python_blocks, run_page

import revstep

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ("tutorial.md", "own-sampler.md", "conditions.md")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs_and_prints_what_it_shows(name, tmp_path):
    pytest.importorskip("torch")
    assert run_page(DOCS / name, tmp_path) > 4


def test_the_examples_of_the_readme_run_on_the_bundled_denoisers_shape(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = json.loads((ROOT / "examples/fashion_mnist_unet/unet/config.json").read_text())
    spec = revstep.DenoiserSpec(
        shape=(config["in_channels"], config["sample_size"], config["sample_size"]),
        schedule=revstep.schedules.VPSchedule(betas="squaredcos_cap_v2"),
        prediction="epsilon",
        value_range=(-1, 1),
        conditions=(revstep.Condition(name="class_labels", dtype="int64", classes=11, null=10),),
    )
    engine = revstep.Engine(NumpyDenoiser(spec, lambda x, *_: x))
    monkeypatch.setattr(revstep, "load", lambda path: engine)
    blocks = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    own = [block for block in blocks if "engine" in block.code and "export" not in block.code][:3]
    assert "slerp" in own[2].code
    exec(program_of(own), {})


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print(3)", "prints:\n3"),
        ("print(2)\nassert 2 > 3", "AssertionError"),
        ("print(2)\n\n\nraise OSError", "line 7, in <module>"),
    ],
)
def test_a_page_that_is_wrong_fails(code, problem, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n```python\n{code}\n```\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match=problem):
        run_page(page, tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_formulas_survive_markdown(name):
    fence = False
    for number, line in enumerate((DOCS / name).read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fence = not fence
        elif not fence:
            formulas = re.findall(r"\$([^$]*)\$", line)
            assert line.count("$") == 2 * len(formulas), f"line {number}: a $ is left over"
            for formula in formulas:  # Markdown takes the backslash off punctuation
                assert not re.search(r"\\[^A-Za-z]", formula), f"line {number}: {formula}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    text = (DOCS / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (DOCS / target).exists(), target
    for file in re.findall(r"`((?:engine|kernels)/[a-z_/]+(?:\.py)?)`", text):
        assert (DOCS.parent / file).exists(), file


CONFIG = """\
[mypy]
strict = true
disallow_subclassing_any = false
[mypy-revstep.*]
follow_imports = silent
[mypy-torch.*]
follow_imports = skip
"""


def type_errors(code, folder):
    """mypy's errors, without torch's own types (a minute to read)."""
    (folder / "mypy.ini").write_text(CONFIG)
    (folder / "page.py").write_text(code, encoding="utf-8")
    path = os.environ.get("PYTHONPATH", "")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "--cache-dir=cache", "page.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    return result.stdout


def test_the_examples_of_own_samplers_are_typed(tmp_path):
    pytest.importorskip("mypy")
    page = program_of(python_blocks((DOCS / "own-sampler.md").read_text(encoding="utf-8")))
    assert "Success" in type_errors(page, tmp_path)
    wrong = textwrap.dedent(
        """
        @revstep.sampler
        def returns_a_number(run: revstep.samplers.Run) -> float:
            return run.steps[0][0].sigma

        @revstep.sampler
        def returns_an_estimate(run: revstep.samplers.Run) -> revstep.samplers.Vector:
            return run.denoise(run.x, run.steps[0][0])

        run_takes_points = revstep.sampler(lambda run: run.denoise(run.x, 0.5).x0)
        """
    )
    assert type_errors(page + wrong, tmp_path).count(" error: ") == 3
