"""Prompts and encoder inputs over HTTP."""

import re
import shutil

import numpy as np
import pytest

pytest.importorskip("fastapi")

from http_server import client_of, serving, values_of

import revstep
from revstep.serve.http.app import create_app


@pytest.fixture(scope="module")
def engine(reading_bundle):
    return revstep.load(reading_bundle)


@pytest.fixture(scope="module")
def client(engine):
    with revstep.Service(engine) as service, client_of({"reading": service}) as client:
        yield client


def test_a_prompt_gives_what_the_engine_gives(client, engine):
    asked = {"prompt": ["red house", "a dog"], "negative_prompt": "moon", "guidance": 2.0}
    asked |= {"n": 2, "steps": 5, "seed": 3}
    reply = client.post("/v1/samples", json=asked)
    assert reply.status_code == 200, reply.text
    want = engine.sample(**asked).numpy()
    np.testing.assert_allclose(values_of(reply.json()), want, atol=1e-4)


def test_inputs_give_what_the_engine_gives(client, engine):
    asked = {"inputs": {"tokens": [1, 4, 6, 0, 0, 0]}, "steps": 5, "seed": 3, "n": 2}
    reply = client.post("/v1/samples", json=asked)
    want = engine.sample(**asked).numpy()
    np.testing.assert_allclose(values_of(reply.json()), want, atol=1e-4)


def test_the_model_says_what_it_takes(client):
    (model,) = client.get("/v1/models").json()["models"]
    assert model["prompt"]
    assert [(c["name"], c["shape"]) for c in model["inputs"]] == [("tokens", [6])]
    assert {c["name"]: c["encoded"] for c in model["conditions"]} == {
        "sequence": True,
        "pooled": True,
    }


@pytest.mark.parametrize(
    ("asked", "argument", "said"),
    [
        ({"prompt": 3}, "prompt", "string"),
        ({"inputs": {"token": [1]}}, "inputs", "did you mean 'tokens'"),
        ({"prompt": "a", "height": 16}, "height", "8 x 8"),
    ],
)
def test_what_is_wrong_is_said_of_its_field(client, asked, argument, said):
    reply = client.post("/v1/samples", json=asked)
    assert reply.status_code == 422
    error = reply.json()["error"]
    assert error["argument"] == argument
    assert re.search(said, error["message"])


def test_the_page_has_a_field_for_the_prompt_and_shows_decoded_pictures(engine):
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with (
        revstep.Service(engine) as service,
        serving(create_app({"reading": service})) as url,
        sync_api.sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(url)
        sync_api.expect(page.locator("#state")).to_have_text("ready")
        page.get_by_label("prompt", exact=True).fill("a red house")
        sent = []
        page.on("request", lambda request: sent.append(request.post_data_json or {}))
        page.get_by_role("button", name="Sample").click()
        page.wait_for_selector("#picture")
        assert [one["prompt"] for one in sent if "prompt" in one] == ["a red house"]
        assert not page.locator("[data-condition]").count()
        browser.close()
