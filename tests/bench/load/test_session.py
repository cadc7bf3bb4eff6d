"""Loads one after the other, and the search among them, in simulated time."""

import json

import pytest
from fake_queue import FakeQueue

from revstep.bench.load.asks import Asks
from revstep.bench.load.load import Load
from revstep.bench.load.session import Session
from revstep.bench.load.verdict import Limit
from revstep.bench.load.warm_up import Alone
from revstep.errors import ArgumentError

SERVICE_S = 0.01


class FakeClient:
    """A client of a ``FakeQueue``, which is idle when it is asked."""

    url, connections, timeout_s = "http://fake", 8, 5.0

    def __init__(self, **options):
        self.queue = FakeQueue(SERVICE_S, **options)

    def send(self, body, reply):
        json.loads(body)
        self.queue.send(body, reply)

    def ask(self, method, path, body=None, timeout_s=None):
        return 200, b'{"toy": {"running": 0, "queued": 0}}'

    def abort(self):
        self.queue.drop()


def session(rows, client=None, limit=None, alone_s=SERVICE_S, **options):
    client = client or FakeClient()
    return Session(
        client=client, model={"name": "toy", "slots": 4}, asks=Asks([{"steps": 2}], "options"),
        alone=Alone((alone_s,), 1), about={"url": client.url}, limit=limit, deadline_s=0.05,
        told=rows.append, clock=client.queue.clock, rest=client.queue.rest, **options,
    )  # fmt: skip


def test_a_row_has_raw_latencies_beside_what_is_said_of_them():
    rows = []
    row = session(rows).run(Load(rate=50.0, seconds=20.0, seed=3))
    assert rows == [row]
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    latencies = row["raw"]["latency_s"]
    assert len(latencies) == row["arrivals"] == row["planned"] == 1000
    assert row["summary"]["percentiles"]["p50"]["value"] == sorted(latencies)[499]
    good = sum(latency <= 0.05 for latency in latencies)
    assert row["goodput"]["good"] == good
    assert row["goodput"]["share"] == good / 1000
    assert len(row["slices"]) == 10
    assert row["summary"]["late_s"]["max"] == pytest.approx(0.0, abs=1e-9)
    assert row["machine"]["versions"]["numpy"]
    assert row["verdict"] is None


def test_refusals_are_never_answered_and_no_goodput():
    rows = []
    client = FakeClient(max_queue=4)
    row = session(rows, client).run(Load(rate=200.0, seconds=5.0))
    refused = row["summary"]["outcomes"]["refused"]
    assert refused > 300
    assert row["raw"]["latency_s"].count(None) == refused
    assert row["summary"]["percentiles"]["p90"]["value"] is None
    assert row["goodput"]["share"] <= 1.0 - refused / 1000


def test_the_search_has_a_row_for_each_load_and_one_of_what_it_found():
    rows = []
    session(rows, limit=Limit(0.08)).search(20.0, 0, 5.0)
    *loads, found = rows
    assert [row["part"] for row in loads] == ["load"] * len(loads)
    assert found["part"] == "search"
    verdicts = {row["load"]["rate"]: row["verdict"] for row in loads}
    assert {each["rate"]: each["verdict"] for each in found["tried"]} == verdicts
    assert found["found_per_s"] == max(r for r, verdict in verdicts.items() if verdict == "holds")
    assert 60.0 < found["found_per_s"] < 1.0 / SERVICE_S
    early = [row for row in loads if row["stopped"] == "missed"]
    assert early
    assert all(row["verdict"] == "missed" and row["arrivals"] < row["planned"] for row in early)


def test_a_load_whose_rate_is_given_runs_to_its_end_though_it_misses_its_limit():
    row = session([], limit=Limit(0.08)).run(Load(rate=150.0, seconds=10.0))
    assert row["verdict"] == "missed"
    assert row["stopped"] == "ended"
    assert row["drift"]["growing"]
    assert row["arrivals"] == 1500


def test_loads_too_short_for_any_rate_that_it_serves_are_refused_before_any():
    rows = []
    with pytest.raises(ArgumentError, match=r"4 at once of 1000 ms each.*--seconds 132") as caught:
        session(rows, limit=Limit(5.0), alone_s=1.0).search(30.0, 0, 5.0)
    assert "p99 takes 528 requests" in str(caught.value)
    assert not rows


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0, "seconds": 1.0}, "rate=0 must be above 0 and at most 10000"),
        ({"rate": 20_000.0, "seconds": 1.0}, "rate=20000 must be"),
        ({"rate": 1.0, "seconds": 0.0}, "seconds=0 must be above 0"),
        ({"rate": 1.0, "seconds": 0.1}, "are 0; it must be 1 to 1,000,000"),
        ({"rate": 10_000.0, "seconds": 101.0}, "are 1010000"),
    ],
)
def test_a_load_out_of_range_is_refused(settings, message):
    with pytest.raises(ArgumentError) as caught:
        Load(**settings)
    assert message in str(caught.value)


def test_a_load_too_short_for_a_percentile_says_how_long_it_takes():
    with pytest.raises(ArgumentError, match=r"p99 takes 528 requests, which is 52\.8 s at 10"):
        Load(rate=10.0, seconds=30.0).check_supports(99.0)
    Load(rate=10.0, seconds=52.8).check_supports(99.0)
