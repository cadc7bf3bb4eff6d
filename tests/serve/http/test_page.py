"""The web page, in a real headless Chromium."""

import re
import shutil

import numpy as np
import pytest

pytest.importorskip("fastapi")
sync_api = pytest.importorskip("playwright.sync_api")

from http_server import serving  # noqa: E402
from stepwise import SECONDS, Stepwise, until  # noqa: E402

from revstep import Condition, DenoiserSpec, Engine, Service  # noqa: E402
from revstep.schedules import VPSchedule  # noqa: E402
from revstep.serve.http.app import create_app  # noqa: E402

sync_api.expect.set_options(timeout=1e3 * SECONDS)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
TOKEN = "a-token-of-this-test-alone"
SHOWN = re.compile("status of 422|ERR_CONNECTION_REFUSED")  # the page says these in words
PICTURES = DenoiserSpec(
    shape=(1, 8, 8),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="shift", dtype="int64", classes=4, null=3),),
    value_range=(-1.0, 1.0),
    batch=(1, 16),
)
NUMBERS = DenoiserSpec(shape=(4, 2), schedule=VPSchedule(), prediction="epsilon", batch=(1, 16))

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, timeout=1e3 * SECONDS
        )
        yield chromium
        chromium.close()


@pytest.fixture
def network():
    return Stepwise(PICTURES)


@pytest.fixture
def page(browser, network):
    numbers = Stepwise(NUMBERS, lambda x, t, conditions: 0.5 * x)
    services = {"pictures": Service(Engine(network)), "numbers": Service(Engine(numbers))}
    said = []
    with serving(create_app(services)) as url:
        context = browser.new_context()
        asked = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        expect(page.locator("#state")).to_have_text("ready")
        page.service = services["pictures"]
        yield page
        network.release()
        assert all(one.startswith((url, "data:")) for one in asked), asked  # it works offline
        context.close()
    assert [text for text in said if not SHOWN.search(text)] == []


def expect(what):
    return sync_api.expect(what)


def pixels(page):
    """The picture as the browser has decoded it: width, height, and how many shades."""
    return page.evaluate(
        """() => {
            const image = document.getElementById("picture");
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
            return [canvas.width, canvas.height, new Set(data).size];
        }"""
    )


def test_the_sample_forms_and_the_service_shows_it(page, network):
    page.get_by_label("shift").select_option("2")
    page.get_by_label("Samples", exact=True).fill("4")
    page.get_by_label("Steps", exact=True).fill("6")
    page.get_by_label("Guidance").fill("2")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Sampler").select_option("dpmpp_2m")
    network.hold()
    page.get_by_role("button", name="Sample", exact=True).click()
    network.wait_for_call()
    expect(page.locator("#rows")).to_have_text("8 of 16")  # guided: two rows each
    network.allow(2)
    expect(page.get_by_text("step 2 of 6")).to_be_visible()
    expect(page.get_by_alt_text("preview after step 2")).to_be_visible()
    network.release()
    expect(page.get_by_alt_text("4 samples, seeds from 7")).to_be_visible()
    expect(page.locator("#said")).to_contain_text("seed 7")
    width, height, shades = pixels(page)
    assert (width, height) == (22, 22)  # a sheet of two by two
    assert shades > 16
    expect(page.locator("#completed")).to_have_text("1")
    expect(page.locator("#wait")).to_contain_text("ms")
    expect(page.locator("#p99")).to_have_text("–")  # one request says nothing of it
    expect(page.locator("#rows")).to_have_text("0 of 16")
    assert sorted({int(v) for call in network.inputs[-3:] for v in call}) == [2, 3]


def test_each_class_in_turn(page, network):
    page.get_by_label("shift").select_option("all")
    page.get_by_label("Samples", exact=True).fill("5")
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_role("button", name="Sample", exact=True).click()
    expect(page.locator("#said")).to_contain_text("ran")
    np.testing.assert_array_equal(network.inputs[-1][:5], [0, 1, 2, 0, 1])


def test_cancel_frees_the_slots(page, network):
    network.hold()
    page.get_by_role("button", name="Sample", exact=True).click()
    network.wait_for_call()
    expect(page.locator("#running")).to_have_text("1")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#said")).to_have_text("cancelled")
    network.release()
    until(lambda: not page.service.stats().slots_in_use)
    assert page.service.stats().outcomes["cancelled"] == 1
    expect(page.get_by_role("button", name="Sample", exact=True)).to_be_enabled()


def test_a_refusal_is_shown_in_words(page):
    page.get_by_label("Guidance").fill("2")
    page.get_by_role("button", name="Sample", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("guidance without conditions")


def test_a_lost_connection_is_shown_in_words(page):
    sample = page.get_by_role("button", name="Sample", exact=True)
    started = 'event: started\ndata: {"id": "0", "seeds": [0]}\n\n'
    page.route("**/v1/samples", lambda route: route.fulfill(body=started))
    sample.click()
    expect(page.get_by_role("alert")).to_have_text("the connection ended before the result")
    page.unroute("**/v1/samples")
    page.route("**/v1/samples", lambda route: route.abort("connectionrefused"))
    sample.click()
    expect(page.get_by_role("alert")).to_contain_text("the server can't be reached")
    page.unroute("**/v1/samples")
    sample.click()
    expect(page.locator("#said")).to_contain_text("ran")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_what_is_no_picture_is_shown_as_numbers(page):
    page.get_by_label("Model").select_option("numbers")
    page.get_by_label("Samples", exact=True).fill("1")
    page.get_by_role("button", name="Sample", exact=True).click()
    expect(page.locator("#numbers")).to_be_visible()
    rows = page.locator("#numbers").inner_text().splitlines()
    assert len(rows) == 4
    assert all(re.fullmatch(r"\s*-?\d+\.\d{4}\s+-?\d+\.\d{4}", row) for row in rows)


def test_the_keyboard_alone_is_enough(page):
    page.get_by_label("Steps", exact=True).focus()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("ran")


@pytest.mark.parametrize("width", [360, 900, 1280])
def test_nothing_sticks_out_of_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= width


def test_a_token_is_asked_for_and_kept_in_the_page_alone(browser, network):
    with serving(create_app({"pictures": Service(Engine(network))}, token=TOKEN)) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        expect(page.locator("#state")).to_contain_text("token")
        page.get_by_label("Bearer token").fill(TOKEN)
        expect(page.locator("#state")).to_have_text("ready")
        page.get_by_role("button", name="Sample", exact=True).click()
        expect(page.locator("#said")).to_contain_text("ran")
        kept = page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]")
        assert kept == [0, 0, ""]
        context.close()
