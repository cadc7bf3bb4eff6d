"""``revstep bench serve``, as a user runs it."""

import json
import signal
import subprocess
import sys

import pytest

pytest.importorskip("fastapi")

from http_server import serving
from stepwise import Stepwise, until

from revstep import Engine, Service
from revstep.serve.http.app import create_app


@pytest.fixture
def served():
    """A running service of a quick network: (the service, its URL)."""
    with Service(Engine(Stepwise())) as service, serving(create_app({"toy": service})) as url:
        yield service, url


def test_a_running_service_is_loaded_at_each_rate(cli, served, tmp_path):
    service, url = served
    file = tmp_path / "rows.jsonl"
    words = ("--rate", "40,80", "--seconds", "0.5", "--steps", "3", "--guidance", "1.5")
    result = cli("bench", "serve", url, *words, "--deadline", "60s", "--json", "--output", file)
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [json.loads(line) for line in file.read_text().splitlines()] == rows
    assert [(row["load"]["rate"], row["arrivals"]) for row in rows] == [(40.0, 20), (80.0, 40)]
    for row in rows:
        assert row["bench"] == "serve"
        outcomes = row["summary"]["outcomes"]
        unsent = outcomes["unsent"]  # where the machine stands still for a second
        assert outcomes["answered"] == row["arrivals"] - unsent == row["goodput"]["good"]
        assert row["requests"]["first"] == {
            "model": "toy", "n": 1, "output": "npy", "steps": 3, "guidance": 1.5,
        }  # fmt: skip
        assert row["service"]["url"] == url
    assert "seed 0" in result.stderr
    alone = rows[0]["alone"]
    made = sum(row["goodput"]["good"] for row in rows) + alone["requests"] + len(alone["seconds"])
    assert service.stats().outcomes["completed"] == made


def test_a_bundle_is_served_here_and_the_tables_name_what_they_show(cli, tabular_bundle, tmp_path):
    words = ("--rate", "40", "--seconds", "0.5", "--threads", "1", "--slots", "4")
    file = tmp_path / "rows.jsonl"
    result = cli("bench", "serve", tabular_bundle, *words, "--output", file)
    assert result.exit_code == 0, result.stderr
    (row,) = map(json.loads, file.read_text().splitlines())
    assert row["service"]["bundle"] == tabular_bundle.name
    for text in ("latency from the schedule to the last byte", "40 a second, in slices", "4 slots"):
        assert text in result.stdout
    assert "p99 takes 12.7 s more" in result.stdout


def test_requests_of_a_file_are_mixed_and_a_wrong_one_is_named_before_any_load(
    cli, served, tmp_path
):
    service, url = served
    file = tmp_path / "asks.jsonl"
    file.write_text('{"steps": 2}\n{"steps": 3, "sampler": "ddim"}\n')
    words = ("bench", "serve", url, "--rate", "40", "--seconds", "0.5", "--requests", file)
    result = cli(*words, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["requests"]["bodies"] == 2
    before = service.stats().outcomes["completed"]
    file.write_text('{"steps": 2}\n{"steps": 5000}\n')
    result = cli(*words)
    assert result.exit_code == 2
    assert "answers request 2 of" in result.stderr
    assert "with 422: steps=5000; this server allows 1000 at most" in result.stderr
    assert service.stats().outcomes["completed"] == before + 1
    assert cli(*words, "--steps", "3").exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --rate, or --p99"),
        (("--rate", "10", "--p99", "1s"), "which is 52.8 s at 10 a second: --seconds 52.8"),
        (("--rate", "0"), "rate=0 must be above 0"),
        (("--rate", "x"), "--rate must be numbers such as 5, 0.5,2 or 10-12; got 'x'"),
        (("--p99", "200"), "--p99 must be a time such as 20ms"),
        (("--rate", "9", "--deadline", "0ms"), "--deadline must be a time"),
        (("--rate", "9", "--slots", "4"), "--slots: of a bundle that is served here"),
        (("--rate", "9"), "nothing listens at http://127.0.0.1:9"),
        (("--rate", "40", "--output", "/dev/null/rows.jsonl"), "/dev/null: is no folder"),
    ],
)
def test_mistakes_are_named_before_any_load(cli, words, message):
    result = cli("bench", "serve", "http://127.0.0.1:9", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_target_that_is_neither_url_nor_bundle_is_named(cli, tmp_path):
    result = cli("bench", "serve", "127.0.0.1:8000", "--rate", "9")
    assert result.exit_code == 2
    assert "a URL is written http://127.0.0.1:8000" in result.stderr
    result = cli("bench", "serve", "ftp://127.0.0.1:8000", "--rate", "9")
    assert result.exit_code == 2
    assert "a URL is written http://127.0.0.1:8000" in result.stderr
    result = cli("bench", "serve", tmp_path / "none.revstep", "--rate", "9")
    assert result.exit_code == 2
    assert "none.revstep" in result.stderr


def test_an_interrupt_keeps_and_prints_what_was_measured(served):
    service, url = served
    words = ("bench", "serve", url, "--rate", "50", "--seconds", "600", "--steps", "1", "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "revstep", *words], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert "seed 0" in process.stderr.readline()
        before = service.stats().outcomes["completed"]
        until(lambda: service.stats().outcomes["completed"] >= before + 20, "some answers")
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60.0)
    assert process.returncode == 130, said
    (row,) = json.loads(out)["rows"]
    assert row["stopped"] == "interrupted"
    assert 1 <= row["arrivals"] < row["planned"] == 30_000
    assert "interrupted" in said
    assert "Traceback" not in said
