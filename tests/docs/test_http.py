"""docs/http.md: its tables are the server's own, and its programs run."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")

from http_server import serving
from networks import NumpyDenoiser
from pages import python_blocks
from serving import assert_same_bits
from stepwise import SPEC, elementwise

import revstep
from revstep.commands.serve import serve
from revstep.serve.http.app import create_app
from revstep.serve.http.limits import Limits
from revstep.serve.http.schema import SampleReply, SampleRequest

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")


def section(title):
    """The text under a heading, to the next one."""
    _, _, rest = PAGE.partition(f"\n## {title}\n")
    assert rest, title
    return rest.partition("\n## ")[0]


def first_cells(text):
    """What stands as code in the first cells of a section's tables."""
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    return [code for row in rows for code in CODE.findall(row)]


@pytest.fixture(scope="module")
def engine():
    return revstep.Engine(NumpyDenoiser(SPEC, elementwise))


def test_it_has_every_field_of_a_request_and_of_an_answer():
    assert set(first_cells(section("A request"))) == set(SampleRequest.model_fields)
    answer = next(line for line in section("The answer").splitlines() if "`json`" in line)
    assert set(CODE.findall(answer)) >= set(SampleReply.model_fields)


def test_it_has_every_path_and_status(engine):
    found = create_app({"toy": revstep.Service(engine)}).openapi()
    ways = {f"{way.upper()} {path}" for path, ways in found["paths"].items() for way in ways}
    assert set(first_cells(PAGE.partition("\n## ")[0])) == ways
    said = {int(s) for s in re.findall(r"^\| (\d{3}) \|", section("Errors"), re.MULTILINE)}
    told = {
        int(status)
        for ways in found["paths"].values()
        for way in ways.values()
        for status in way["responses"]
    }
    assert said == {s for s in told if s >= 400} | {405}  # which no description has


def test_it_has_every_option_with_its_default():
    import inspect

    parameters = inspect.signature(serve).parameters
    options = {"--" + name.replace("_", "-") for name in parameters if name != "bundles"}
    text = section("Options of the server")
    assert {code.replace("--no-page", "--page") for code in first_cells(text)} == options
    limits = Limits()
    for name, value in (
        ("`--max-samples`", limits.samples),
        ("`--max-steps`", limits.steps),
        ("`--max-body`", f"{limits.body_bytes >> 20} MiB"),
        ("`--grace`", parameters["grace"].default),
        ("`--host`, `--port`", f"{parameters['host'].default}, {parameters['port'].default}"),
    ):
        assert f"| {name} | {value} |" in text


def test_it_has_every_metric(engine):
    from revstep.serve.http.metrics import metrics_text

    with revstep.Service(engine) as service:
        service.submit(1).result()
        text = metrics_text(lambda: {"toy": service})().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    rows = re.findall(r"^\| (`.*?) \| (\w+) \|", section("Prometheus"), re.MULTILINE)
    said = {name: kind for names, kind in rows for name in CODE.findall(names)}
    assert said == kinds


def test_its_programs_run(engine, monkeypatch):
    ask, own = python_blocks(PAGE)
    monkeypatch.setattr(revstep, "load", lambda path: engine)
    names = {}
    exec(own.code, names)
    with serving(names["app"]) as url:
        asked = {}
        exec(ask.code.replace("http://127.0.0.1:8000", url), asked)
        asked["client"].close()
        want = engine.sample(4, sampler="dpmpp_2m", steps=12, seed=7)
        assert_same_bits(asked["images"].astype(np.float32), want.x)
    assert names["service"].closed
