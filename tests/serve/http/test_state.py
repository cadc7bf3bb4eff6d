"""Models, stats, health and Prometheus metrics."""

import pytest
from asking import in_thread
from serving import settle
from stepwise import Stepwise, until

from revstep import Condition, DenoiserSpec, Engine, Service
from revstep.schedules import VPSchedule
from revstep.serve.http.limits import Limits

CLASSES = DenoiserSpec(
    shape=(1, 4, 4),
    schedule=VPSchedule(),
    prediction="v_prediction",
    conditions=(
        Condition(name="label", dtype="int64", classes=4, null=3),
        Condition(name="seen", shape=(3,)),
    ),
    value_range=(-1.0, 1.0),
    batch=(2, 8),
)


def test_models_say_what_can_be_asked(serve, service):
    classes = Service(Engine(Stepwise(CLASSES, lambda x, t, conditions: 0.5 * x)), slots=4)
    services = {"toy": service, "classes": classes}
    client = serve(services, limits=Limits(steps=77, samples=5))
    toy, other = client.get("/v1/models").json()["models"]
    assert toy["name"] == "toy"
    assert (toy["shape"], toy["prediction"]) == ([2, 3], "epsilon")
    assert (toy["batch"], toy["slots"]) == ([1, 16], 16)
    assert (toy["image"], toy["default_steps"]) == (False, 20)
    assert toy["limits"] == {"steps": 77, "samples": 5}
    assert {"ddim", "dpmpp_2m", "unipc"} <= set(toy["samplers"])
    assert {"trailing", "karras"} <= set(toy["grids"])
    (shift,) = toy["conditions"]
    assert (shift["name"], shift["shape"], shift["null"]) == ("shift", [], 0.25)
    assert (other["name"], other["image"], other["batch"], other["slots"]) == (
        "classes", True, [2, 8], 4,
    )  # fmt: skip
    label, seen = other["conditions"]
    assert label == {
        "name": "label", "dtype": "int64", "shape": [], "has_null": True, "null": 3.0,
        "encoded": False, "min": 0, "max": 3,
    }  # fmt: skip
    assert (seen["shape"], seen["has_null"], seen["null"], seen["max"]) == ([3], False, None, None)


def test_stats_are_those_of_the_service(client, network, service):
    network.hold()
    running = in_thread(
        lambda: client.post("/v1/samples", json={"n": 3, "guidance": 2, "conditions": {"shift": 1}})
    )
    network.wait_for_call()
    found = client.get("/v1/stats").json()["toy"]
    assert (found["running"], found["slots_in_use"], found["rows_in_use"]) == (1, 3, 6)
    assert found["draining"] is False
    network.release()
    assert running().status_code == 200
    settle(service, 1)
    found = client.get("/v1/stats").json()["toy"]
    want = service.stats().to_dict()
    assert found == want
    assert found["outcomes"]["completed"] == 1
    assert 0.0 < found["step_s"]["p50"] <= found["step_s"]["p99"] < 100.0


def samples_of(text):
    """Name -> labels -> value, as Prometheus' own client reads them."""
    parser = pytest.importorskip("prometheus_client.parser")
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, {}), "twice the same"
            found[sample.name][key] = sample.value
    return found


def test_metrics_are_what_prometheus_reads(serve, network):
    service, other = Service(Engine(network), slots=4), Service(Engine(Stepwise()))
    client = serve({"toy": service, "other": other})
    client.post("/v1/samples", json={"model": "toy", "n": 2, "steps": 5})
    client.post("/v1/samples", json={"model": "toy", "conditions": {"shift": 13}})
    network.hold()
    replies = [in_thread(lambda: client.post("/v1/samples", json={"model": "toy", "n": 6}))]
    network.wait_for_call()
    replies.append(in_thread(lambda: client.post("/v1/samples", json={"model": "toy"})))
    until(lambda: service.stats().queued == 1, "the request that waits")
    reply = client.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found, stats = samples_of(reply.text), service.stats()
    toy = (("model", "toy"),)
    assert found["revstep_slots"][toy] == 4
    assert found["revstep_slots_in_use"][toy] == 4
    assert found["revstep_rows_in_use"][toy] == 4
    assert found["revstep_waiting_samples"][toy] == 2
    assert found["revstep_queue_depth"][toy] == 1
    assert found["revstep_running_requests"][toy] == 1
    assert found["revstep_draining"][toy] == 0
    assert found["revstep_steps_total"][toy] == stats.steps > 0
    assert found["revstep_network_rows_total"][toy] == stats.rows_run
    assert found["revstep_network_rows_wasted_total"][toy] == stats.rows_wasted
    outcomes = {dict(k)["outcome"]: v for k, v in found["revstep_requests_total"].items()
                if dict(k)["model"] == "toy"}  # fmt: skip
    assert outcomes == stats.outcomes
    assert (outcomes["completed"], outcomes["failed"]) == (1, 1)
    for name in ("queue", "run", "step", "network"):
        times = getattr(stats, {"queue": "queued"}.get(name, name) + "_s")
        assert found[f"revstep_{name}_seconds_count"][toy] == times.count > 0
        assert found[f"revstep_{name}_seconds_sum"][toy] == pytest.approx(times.total)
        for quantile, value in (("0.5", times.p50), ("0.9", times.p90), ("0.99", times.p99)):
            label = (("model", "toy"), ("quantile", quantile))
            assert found[f"revstep_{name}_seconds"][label] == pytest.approx(value)
    assert found["revstep_steps_total"][(("model", "other"),)] == 0
    assert found["revstep_step_seconds_count"][(("model", "other"),)] == 0
    network.release()
    assert [reply().status_code for reply in replies] == [200, 200]


def test_health_and_readiness(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
