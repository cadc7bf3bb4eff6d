"""docker/: what the Dockerfiles copy, install and start is there; docs/containers.md names it."""

import json
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer

from revstep.cli import app

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
both = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def instructions(file):
    """(instruction, its words) of a Dockerfile, lines that go on joined."""
    text = re.sub(r"^#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = filter(None, text.replace("\\\n", " ").splitlines())
    return [tuple(line.split(None, 1)) for line in lines]


def words_of(file, name):
    """What stands behind each instruction of a name."""
    return [words for instruction, words in instructions(file) if instruction == name]


def copied(file):
    """The sources that the build stage takes from the checkout."""
    return [source for words in words_of(file, "COPY") for source in words.split()[:-1]]


def test_there_is_one_for_a_cpu_and_one_for_cuda():
    assert [file.name for file in FILES] == ["cpu.Dockerfile", "cuda.Dockerfile"]


@both
def test_the_build_has_all_that_the_wheel_is_made_of(file):
    packages = PROJECT["tool"]["scikit-build"]["wheel"]["packages"].values()
    sources = {path.replace("src/../", "").split("/")[0] for path in packages}
    needed = {"pyproject.toml", "CMakeLists.txt", PROJECT["project"]["readme"]}
    needed |= {*sources, *PROJECT["project"]["license-files"]}
    assert set(copied(file)) == needed
    assert all((ROOT / name).exists() for name in needed)


@both
def test_nothing_that_is_copied_is_kept_out_of_the_build(file):
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied(file))
    tracked = subprocess.run(
        ["git", "ls-files", *copied(file)], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("no git checkout here")
    out = [rule for rule in rules[1:] if not rule.startswith("!")]
    lost = [
        path
        for path in tracked
        if any(
            fnmatch(path, rule.removeprefix("**/")) or path.startswith(f"{rule}/") for rule in out
        )
    ]
    assert all(path.startswith("bench/results/") for path in lost)


@both
def test_its_extras_are_extras(file):
    (extras,) = (w.partition("=")[2] for w in words_of(file, "ARG") if w.startswith("EXTRAS="))
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    assert f"`{extras}`" in PAGE


@both
def test_what_it_starts_is_a_command_that_parses(file):
    (entry,), (command,) = words_of(file, "ENTRYPOINT"), words_of(file, "CMD")
    assert json.loads(entry) == ["revstep"]
    name, *words = json.loads(command)
    typer.main.get_command(app).commands[name].make_context(name, words)


@both
def test_its_health_check_asks_the_port_that_it_opens(file):
    (check,) = words_of(file, "HEALTHCHECK")
    _, flag, code = json.loads(check[check.index("[") :])
    (port,) = words_of(file, "EXPOSE")
    assert flag == "-c"
    assert f":{port}/readyz" in code
    compile(code, "health", "exec")
    assert port in json.loads(words_of(file, "CMD")[0])


@both
def test_it_does_not_run_as_root(file):
    assert int(words_of(file, "USER")[-1]) > 0
    assert f"docker build -f docker/{file.name} " in PAGE
