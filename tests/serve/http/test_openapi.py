"""The API against its own description, by schemathesis."""

import json

import pytest
from http_server import client_of
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from serving import settle
from stepwise import SECONDS, Stepwise

from revstep import Engine, Service
from revstep.serve.http.limits import Limits

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

# What no schema tells: that 2 samples take 2 seeds, or that a name is a sampler's. And a deadline
# of nanoseconds that passes is no fault of the server: the test looks at those itself.
EXCLUDED = [positive_data_acceptance, not_a_server_error]
OWN = {504: {"DeadlineError"}, 500: {"NonFiniteError"}}
OPERATIONS = [
    ("/v1/samples", "post"),
    ("/v1/samples/{id}", "delete"),
    ("/v1/models", "get"),
    ("/v1/stats", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
]


@pytest.fixture(scope="module")
def service():
    with Service(Engine(Stepwise())) as service:
        yield service


@pytest.fixture(scope="module")
def client(service):
    with client_of({"toy": service}, limits=Limits(steps=30, samples=20)) as client:
        yield client


@pytest.fixture(scope="module")
def api(client):
    return schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.name)
def test_the_api_is_as_it_describes_itself(api, service, path, method, mode):
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=80, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case):
        reply = case.call(timeout=SECONDS)
        case.validate_response(reply, excluded_checks=EXCLUDED)
        if reply.status_code >= 500:
            assert reply.json()["error"]["type"] in OWN.get(reply.status_code, ()), reply.text
        settle(service)

    try:
        check()
    except Unsatisfiable:
        assert mode.is_negative
        assert method != "post"  # nothing in the others can be wrong


def test_the_examples_of_the_description_are_taken(client):
    found = client.get("/openapi.json").json()["components"]["schemas"]["SampleRequest"]
    assert len(found["examples"]) >= 3
    for body in found["examples"]:
        reply = client.post("/v1/samples", json=body)
        # this network has neither pictures nor classes
        if reply.status_code == 422:
            assert reply.json()["error"]["argument"] in ("output", "conditions"), reply.text
        else:
            assert reply.status_code == 200


def test_the_description_names_every_status_and_kind_of_answer(client):
    found = client.get("/openapi.json").json()
    responses = found["paths"]["/v1/samples"]["post"]["responses"]
    assert set(responses) == {
        *("200", "400", "401", "404", "409", "413", "422", "500", "503", "504"),
    }
    assert set(responses["200"]["content"]) == {
        *("application/json", "image/png", "application/x-npy", "text/event-stream"),
    }
    ways = {(path, way) for path, ways in found["paths"].items() for way in ways}
    assert ways == set(OPERATIONS)
    assert json.dumps(found).count('"description"') > 40
