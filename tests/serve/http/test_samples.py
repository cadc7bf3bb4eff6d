"""POST /v1/samples: what comes back is what the engine gives, or a refusal that says why."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from http_server import client_of, values_of
from networks import NumpyDenoiser
from PIL import Image
from serving import assert_same_bits, engine_of
from stepwise import Stepwise, elementwise

from revstep import Condition, DenoiserSpec, Engine, SamplerChoice, Service
from revstep.engine.program.samplers import make_sampler
from revstep.schedules import VPSchedule
from revstep.serve.http.limits import Limits

PICTURES = DenoiserSpec(
    shape=(3, 4, 5),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="shift", null=0.25),),
    value_range=(-1.0, 1.0),
    batch=(1, 16),
)


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return {"npy": base64.b64encode(file.getvalue()).decode()}


def header(shape, dtype="<f4", data=b""):
    """A .npy file that says it holds ``shape``, and holds ``data``."""
    file = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return {"npy": base64.b64encode(file.getvalue() + data).decode()}


@pytest.fixture(scope="module")
def service():
    with Service(Engine(Stepwise())) as service:
        yield service


@pytest.fixture(scope="module")
def client(service):
    """One server for all tests here: none of them leaves anything."""
    with client_of({"toy": service}) as client:
        yield client


@pytest.fixture
def pictures(serve):
    with Service(Engine(Stepwise(PICTURES))) as service:
        yield serve({"pictures": service})


@pytest.fixture(scope="module")
def alone():
    """What the engine gives without a service."""
    return lambda *args, **kwargs: engine_of().sample(*args, **kwargs)


REQUESTS = [
    {},
    {"n": 3, "seed": 5},
    {"n": 2, "seed": [2**64 - 1, 0], "sampler": "dpmpp_2m", "steps": 7},
    {"n": 5, "sampler": "ddim", "sampler_options": {"eta": 0.5}, "steps": 4, "seed": 1},
    {"guidance": 2.5, "conditions": {"shift": 0.5}, "seed": 3, "steps": 5},
    {
        "n": 2,
        "seed": 3,
        "guidance": [1.0, 4.0],
        "conditions": {"shift": [0.5, -0.5]},
        "null_conditions": {"shift": 0.125},
    },
    {"start": [[0.5, 0, 1], [1, 2, 3]], "strength": 0.5, "seed": 8, "grid": "trailing"},
    {"mask": [[1, 0, 1], [0, 1, 0]], "known": [[0.5] * 3] * 2, "seed": 8, "clip": True},
    {"compat": "diffusers", "final": "first", "seed": 0, "steps": 6, "priority": 3},
]


@pytest.mark.parametrize("body", REQUESTS)
def test_the_bits_are_those_of_the_engine(client, alone, body):
    reply = client.post("/v1/samples", json=body)
    assert reply.status_code == 200, reply.text
    found = reply.json()
    same = {k: v for k, v in body.items() if k not in ("n", "priority", "sampler_options")}
    same["sampler"] = make_sampler(body.get("sampler", "ddim"), **body.get("sampler_options", {}))
    same["seed"] = found["seeds"]
    for name in ("start", "mask", "known"):
        if name in same:
            same[name] = np.asarray(same[name])
    want = alone(body.get("n", 1), **same)
    assert_same_bits(values_of(found), want.x)
    assert (found["model"], found["dtype"]) == ("toy", "float32")
    assert found["seeds"] == want.seeds.tolist()
    assert found["calls"] == want.calls
    assert 0.0 <= found["queued_ms"] < 1e5
    assert 0.0 < found["run_ms"] < 1e5
    assert reply.headers["X-Revstep-Id"] == found["id"]
    assert reply.headers["X-Revstep-Seeds"] == ",".join(map(str, found["seeds"]))
    if isinstance(seed := body.get("seed"), int):
        assert found["seeds"] == [seed + k for k in range(body.get("n", 1))]


def test_a_drawn_seed_is_one_that_every_reader_of_json_has_and_gives_the_same_again(client):
    found = [client.post("/v1/samples", json={}).json() for _ in range(2)]
    assert found[0]["seeds"] != found[1]["seeds"]
    assert all(float(one["seeds"][0]) == one["seeds"][0] < 2**53 for one in found)
    again = client.post("/v1/samples", json={"seed": found[0]["seeds"]}).json()
    assert again["data"] == found[0]["data"]


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_as_npy_too(client, alone, dtype, order):
    mask = np.asarray([[1, 0, 1], [0, 1, 0]]).astype(dtype, order)
    body = {"mask": npy(mask), "known": npy(np.full((2, 3), 0.5, ">f4")), "seed": 8}
    reply = client.post("/v1/samples", json=body)
    assert reply.status_code == 200, reply.text
    want = alone(1, mask=mask.astype(np.float32), known=np.full((2, 3), 0.5, np.float32), seed=8)
    assert_same_bits(values_of(reply.json()), want.x)


def test_an_npy_answer_is_the_array(client, alone):
    reply = client.post("/v1/samples", json={"n": 3, "seed": 4, "steps": 5, "output": "npy"})
    assert reply.headers["Content-Type"] == "application/x-npy"
    assert reply.headers["X-Revstep-Seeds"] == "4,5,6"
    assert_same_bits(np.load(io.BytesIO(reply.content)), alone(3, seed=4, steps=5).x)


def test_a_png_answer_shows_all_samples(pictures):
    body = {"n": 3, "seed": 4, "steps": 5, "clip": True}
    reply = pictures.post("/v1/samples", json=body | {"output": "png"})
    assert reply.headers["Content-Type"] == "image/png"
    sheet = np.asarray(Image.open(io.BytesIO(reply.content)))
    x = Engine(NumpyDenoiser(PICTURES, elementwise)).sample(3, seed=4, steps=5, clip=True).x
    shown = np.clip(np.rint((x + 1.0) * 127.5), 0, 255).transpose(0, 2, 3, 1)
    places = [np.s_[y : y + 4, x : x + 5] for y, x in _places(sheet.shape)]
    for picture, place in zip(shown, places, strict=False):
        assert np.abs(sheet[place].astype(int) - picture).max() <= 1


def _places(shape):
    """Where pictures of 4 x 5 lie in a sheet of two by two, with what gap there is."""
    gap = (shape[0] - 8) // 3
    assert shape == (8 + 3 * gap, 10 + 3 * gap, 3)
    return [(gap, gap), (gap, 5 + 2 * gap), (4 + 2 * gap, gap)]


BAD = [
    ({"n": 0}, "n"),
    ({"n": 65}, "n"),
    ({"n": 10**40}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": None}, "n"),
    ({"steps": 0}, "steps"),
    ({"steps": 1001}, "steps"),
    ({"sampler": "dimm"}, "sampler"),
    ({"sampler_options": {"ita": 1.0}}, "ita"),
    ({"sampler_options": {"eta": -1.0}}, "eta"),
    ({"sampler_options": {"eta": [1.0]}}, "sampler_options"),
    ({"sampler": "predictor_corrector", "sampler_options": {"norms": "own"}}, None),
    ({"sampler": "consistency", "sampler_options": {"sigma_min": 1e300}}, None),
    ({"sampler": "repaint", "sampler_options": {"jump_length": 1, "repeats": 10**9}}, "steps"),
    ({"sampler": "langevin", "sampler_options": {"repeats": 10**9}}, "steps"),
    ({"sampler": "reverse_sde", "sampler_options": {"corrections": 51}, "steps": 20}, "steps"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**64}, "seed"),
    ({"seed": ["x"] * 1000}, "seed"),
    ({"n": 2, "seed": [1]}, "seed"),
    ({"guidance": 2.0}, "conditions"),
    ({"guidance": "2"}, "guidance"),
    ({"conditions": {"shft": 1.0}}, "conditions"),
    ({"conditions": {"shift": True}}, "conditions"),
    ({"conditions": {"shift": "x"}}, "conditions"),
    ({"conditions": {"shift": [1, [2]]}}, "conditions"),
    ({"conditions": {str(k): 0 for k in range(65)}}, None),
    ({"n": 2, "conditions": {"shift": [1, 2, 3]}}, "conditions"),
    ({"start": [["x", 0, 0]]}, "start"),
    ({"start": [0] * 7}, "start"),
    ({"start": 10**40}, "start"),
    ({"start": {"npy": "?"}}, "start"),
    ({"start": {"npy": ""}}, "start"),
    ({"start": {"pny": ""}}, "start"),
    ({"start": npy(np.asarray(["x"]))}, "start"),
    ({"start": npy(np.asarray([None]), allow_pickle=True)}, "start"),
    ({"start": npy(np.full((2, 3), np.nan))}, "start"),
    ({"start": header((10**9, 10**4))}, "start"),
    ({"start": header((-1, -6), data=bytes(24))}, "start"),
    ({"start": header((2, 3), data=bytes(23))}, "start"),
    ({"strength": 0.5}, "strength"),
    ({"mask": [[0.0] * 3] * 2}, None),
    ({"noise": [0.0]}, "noise"),
    ({"grid": "trialing"}, "grid"),
    ({"compat": "other"}, "compat"),
    ({"final": "last"}, "final"),
    ({"clip": "perhaps"}, "clip"),
    ({"priority": 1001}, "priority"),
    ({"deadline_s": 0}, "deadline_s"),
    ({"deadline_s": 1e400}, "deadline_s"),
    ({"output": "gif"}, "output"),
    ({"output": "png"}, "output"),
    ({"previews": 2}, "previews"),
    ({"stream": True, "previews": -1}, "previews"),
    ({"id": "a b"}, "id"),
    ({"id": "a/../b"}, "id"),
    ({"sede": 1}, None),
    ({"x" * 100_000: 1}, None),
    ({"sampler": "x" * 100_000}, "sampler"),
    ({"conditions": {"x" * 100_000: 1}}, "conditions"),
    ({"sampler_options": {"eta": "x" * 100_000}}, "sampler_options"),
    ([], None),
    ("x", None),
    (None, None),
]


@pytest.mark.parametrize(("body", "argument"), BAD)
def test_a_wrong_field_is_refused_before_any_work(client, service, body, argument):
    before = service.stats().steps
    reply = client.post(
        "/v1/samples", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == 422, reply.text
    assert service.stats().steps == before
    error = reply.json()["error"]
    assert set(error) == {"type", "message", "argument"}
    assert len(error["message"]) < 2000
    if argument is not None:
        assert error["argument"] == argument, error


def test_a_misspelt_field_is_told_the_right_one(client):
    error = client.post("/v1/samples", json={"sede": 1}).json()["error"]
    assert "did you mean 'seed'" in error["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff{}", 400),
        (b"{'n': 1}", 422),
        (b'{"start": NaN}', 422),
        (b'{"guidance": Infinity}', 422),
    ],
)
def test_what_is_no_json_is_refused(client, content, status):
    reply = client.post(
        "/v1/samples", content=content, headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_a_body_of_another_type_is_refused(client):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):  # as curl -d has it
        reply = client.post("/v1/samples", content=b"{}", headers={"Content-Type": kind})
        assert reply.status_code == 422
        assert "Content-Type: application/json" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the body must be a JSON object, sent with Content-Type: application/json; see"),
        ("[]", "the body must be a JSON object, sent with Content-Type: application/json; see"),
        ('{"steps": 2,', "the body is no JSON: Expecting property name .*, at character 1"),
        ('{"seed": -1}', "seed: Input should be greater than or equal to 0; or: Input should be a"),
        ('{"guidance": "2"}', "guidance: Input should be a valid number; or: Input should be a"),
        ('{"sampler_options": {"eta": [1]}}', "sampler_options.eta: Input should be a valid bool"),
        ('{"seed": -1, "n": 0}', r"n: Input should be .* equal to 1 \(and 2 more\); see"),
    ],
)
def test_a_refusal_is_in_words_of_the_api(client, content, said):
    reply = client.post(
        "/v1/samples", content=content, headers={"Content-Type": "application/json"}
    )
    assert re.match(said, reply.json()["error"]["message"]), reply.text


def test_seeds_are_in_a_header_while_it_is_short(serve, service):
    client = serve({"toy": service}, limits=Limits(samples=129))
    body = {"steps": 1, "output": "npy", "seed": 0}
    reply = client.post("/v1/samples", json=body | {"n": 128})
    assert reply.headers["X-Revstep-Seeds"].endswith(",127")
    assert "X-Revstep-Seeds" not in client.post("/v1/samples", json=body | {"n": 129}).headers


def test_millions_of_wrong_things_are_refused_with_one_message(client):
    for body in ({"start": ["x"] * 500_000}, {f"k{k}": 0 for k in range(300_000)}):
        reply = client.post("/v1/samples", json=body)
        assert reply.status_code == 422
        assert len(reply.content) < 2000


def test_steps_count_as_often_as_they_are_repeated(serve):
    client = serve({"toy": Service(Engine(Stepwise()))}, limits=Limits(steps=50))
    body = {"mask": [[1, 0, 1], [0, 1, 0]], "known": [[0.5] * 3] * 2, "sampler": "repaint"}
    fits = body | {"steps": 10, "sampler_options": {"jump_length": 2, "repeats": 5}}
    assert client.post("/v1/samples", json=fits).json()["calls"] <= 50
    too_many = fits | {"steps": 11}
    assert client.post("/v1/samples", json=too_many).json()["error"]["argument"] == "steps"
    # left out, they are 20
    assert client.post("/v1/samples", json={"steps": 51}).status_code == 422
    repeated = {"sampler": "langevin", "sampler_options": {"repeats": 3}}
    assert client.post("/v1/samples", json=repeated).status_code == 422


def test_of_several_models_one_is_named(serve):
    services = {"toy": Stepwise(), "pictures": Stepwise(PICTURES)}
    client = serve({name: Service(Engine(network)) for name, network in services.items()})
    error = client.post("/v1/samples", json={}).json()["error"]
    assert error["argument"] == "model"
    assert "toy, pictures" in error["message"]
    unknown = client.post("/v1/samples", json={"model": "tot"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["argument"] == "model"
    assert "did you mean 'toy'" in unknown.json()["error"]["message"]
    for name, shape in {"toy": [1, 2, 3], "pictures": [1, 3, 4, 5]}.items():
        found = client.post("/v1/samples", json={"model": name, "seed": 0}).json()
        assert (found["model"], found["shape"]) == (name, shape)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/samples", {"POST"}),
        ("DELETE", "/v1/samples", {"POST"}),
        ("POST", "/v1/samples/x", {"DELETE"}),
        ("PUT", "/v1/models", {"GET"}),
        ("POST", "/healthz", {"GET"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(client, method, path, allowed):
    reply = client.request(method, path)
    assert reply.status_code == 405
    assert set(reply.headers["Allow"].split(", ")) == allowed
    assert reply.json()["error"]["type"] == "MethodNotAllowed"


def test_a_request_without_a_sampler_runs_the_models_own(serve):
    choice = SamplerChoice("dpmpp_2m", {"second": "heun"}, "diffusers")
    engine = Engine(Stepwise(dataclasses.replace(PICTURES, sampler=choice)))
    want = engine.sample(2, seed=5, steps=4).x
    with Service(engine) as service:
        client = serve({"pictures": service})
        assert client.get("/v1/models").json()["models"][0]["sampler"] == "dpmpp_2m"
        asked = {"n": 2, "seed": 5, "steps": 4}
        assert_same_bits(values_of(client.post("/v1/samples", json=asked).json()), want)
        named = {**asked, "sampler": "dpmpp_2m", "compat": "diffusers"}
        other = values_of(client.post("/v1/samples", json=named).json())
        assert not np.array_equal(other, want)
        again = {**asked, "sampler_options": {"second": "midpoint"}}
        assert_same_bits(values_of(client.post("/v1/samples", json=again).json()), other)
