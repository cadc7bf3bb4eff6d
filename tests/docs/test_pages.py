"""The pages that are programs: they run, print what they show, and check under mypy."""

import importlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer
from networks import NumpyDenoiser
from pages import program_of, python_blocks, run_page

import revstep
from revstep.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUNDLE = "demo-output/fashion_mnist_unet.revstep"
PAGES = (
    *("tutorial.md", "own-sampler.md", "conditions.md", "encoders.md", "two-times.md"),
    *("bring-your-model.md", "onnx-files.md", "compat.md", "quick-start.md"),
)


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
    own = [block for block in blocks if "engine" in block.code and "export" not in block.code][:4]
    assert "slerp" in own[2].code
    assert "Service" in own[3].code
    exec(program_of(own), {})


def shell_lines(text, word):
    """The shell block of the README that has ``word``, line by line; a backslash goes on."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if word in block)
    return block.replace("\\\n", " ").splitlines()


WRITTEN = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("examples/**/*.md"))]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_the_commands_that_pages_show_are_ones_that_the_command_line_takes(page):
    group = typer.main.get_command(app)
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines = block.replace("\\\n", " ").splitlines()
        for part in (part for line in lines for part in line.split("&&")):
            program, *words = shlex.split(part, comments=True) or [""]
            if program == "revstep":
                group.commands[words[0]].make_context(words[0], words[1:])  # raises: parses only


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_readmes_server_and_request_work(demo_bundle, tmp_path):
    pytest.importorskip("fastapi")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    serve, ask = (
        line.replace("8000", port).replace(
            "demo-output/fashion_mnist_unet.revstep", str(demo_bundle)
        )
        for line in shell_lines((ROOT / "README.md").read_text(encoding="utf-8"), "revstep serve d")
    )
    server = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(serve)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert f"on http://127.0.0.1:{port}" in server.stdout.readline()
        url = f"http://127.0.0.1:{port}/readyz"
        subprocess.run(
            ["curl", "-sf", "--retry", "60", "--retry-all-errors", "--retry-delay", "1", url],
            check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run([*shlex.split(ask), "-sSf"], check=True, cwd=tmp_path)
        assert (tmp_path / "four.png").read_bytes().startswith(b"\x89PNG")
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_the_readmes_bulk_job_and_deployment_work(demo_bundle, tmp_path):
    pytest.importorskip("pyarrow")
    lines = shell_lines((ROOT / "README.md").read_text(encoding="utf-8"), "revstep generate d")
    small = {BUNDLE: str(demo_bundle), "100000": "20",
             " --ray": " --steps 2"}  # fmt: skip
    for line in lines:
        for text, other in small.items():
            line = line.replace(text, other)
        if line.startswith("revstep"):
            command = [sys.executable, "-m", *shlex.split(line)]
            subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "samples" / "part-00000.parquet").exists()
    assert list((tmp_path / "models").glob("*/config.pbtxt"))


def test_what_the_readme_gives_serve_run_is_an_application(monkeypatch):
    serve = pytest.importorskip("ray.serve")
    lines = shell_lines((ROOT / "README.md").read_text(encoding="utf-8"), "revstep generate d")
    (line,) = (line for line in lines if line.startswith("serve run"))
    _, _, target, *given = shlex.split(line)
    module, _, name = target.partition(":")
    build = getattr(importlib.import_module(module), name)
    made = build(dict(pair.split("=") for pair in given))
    assert isinstance(made, serve.Application)


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


LINKING = [*WRITTEN, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def anchors(page):
    """What links may point to in a page, as GitHub names its headings."""
    text = re.sub(r"^(```+).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, fragment in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if re.match(r"https?:", target):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not fragment or fragment in anchors(file), f"{target}#{fragment}"
    for file in re.findall(r"`((?:engine|kernels)/[a-z_/]+(?:\.py)?)`", text):
        assert (ROOT / file).exists(), file


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
