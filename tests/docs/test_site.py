"""The documentation site, as it is built: whole, by itself, and what GitHub shows."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")

from markdown_it import MarkdownIt
from site_pages import ROOT, build, pages_of

from suites.site import api

DOCS = ROOT / "docs"
WRITTEN = sorted(DOCS.glob("*.md"))
OUTSIDE = re.compile(r"(?:https?:)?//")
LOADED = {  # what a browser fetches without being asked
    "script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src",
    "audio": "src", "embed": "src", "object": "data", "input": "src",
}  # fmt: skip
FETCHED_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch",
                 "modulepreload", "manifest", "apple-touch-icon"}  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def pages(site):
    """Its pages, by name."""
    return pages_of(site)


def loaded(element):
    """What a tag makes a browser fetch."""
    if element.tag == "link" and FETCHED_LINKS & set(element["rel"].split()):
        yield element["href"]
    yield element[LOADED[element.tag]] if element.tag in LOADED else ""
    yield from (part.split()[0] for part in element["srcset"].split(",") if part.strip())


def test_every_page_of_the_docs_is_in_the_site(pages):
    assert {f"{page.stem}.html" for page in WRITTEN} <= set(pages)


def test_no_page_loads_anything_from_elsewhere(pages, site):
    for page in pages.values():
        for element in page.elements:
            for link in filter(None, loaded(element)):
                assert not OUTSIDE.match(link), f"{page.name}: {link}"
    for sheet in site.rglob("*.css"):
        for link in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", sheet.read_text()):
            assert not OUTSIDE.match(link), f"{sheet.name}: {link}"


def test_what_pages_load_is_there(pages):
    for page in pages.values():
        for element in page.elements:
            for link in filter(None, loaded(element)):
                if not link.startswith("data:"):
                    assert page.target(link)[0].is_file(), f"{page.name}: {link}"


def test_links_lead_to_pages_and_places_that_are_there(pages, site):
    for page in pages.values():
        for element in page.elements:
            link = element["href"] if element.tag == "a" else ""
            if not link or re.match(r"[a-z]+:", link) or page.name == "404.html":
                continue
            file, fragment = page.target(link)
            assert file.is_file(), f"{page.name}: {link}"
            there = pages.get(file.relative_to(site).as_posix())
            top = fragment.startswith("__")  # of the theme, which makes it in the browser
            assert not fragment or top or fragment in there.ids, f"{page.name}: {link}"


@pytest.mark.parametrize("module", api.PAGES)
def test_the_reference_has_every_public_name(module, pages):
    import importlib

    names = api.names_of(importlib.import_module(module))
    page = pages[f"api/{module}.html"]
    shown = page.ids | {element["href"].rpartition("#")[2] for element in page.elements}
    assert {f"{module}.{name}" for name in names} <= shown
    assert names


def test_the_reference_has_no_markup_of_another_language_left(pages):
    for module in api.PAGES:
        prose = [
            text for tags, text in pages[f"api/{module}.html"].read.texts if "code" not in tags
        ]
        for mark in (".. math", ":math:", "=====", "``", "::: "):
            assert not [text for text in prose if mark in text], f"{module}: {mark}"


def test_no_formula_is_left_as_it_was_written(pages):
    formulas = re.findall(r"(?s)```math\n.*?```|\$[^$\n]+\$", (DOCS / "tutorial.md").read_text())
    drawn = [element for element in pages["tutorial.html"].elements if element.tag == "math"]
    assert len(drawn) == len(formulas) > 50
    for page in pages.values():
        assert not [element for element in page.elements if "arithmatex" in element["class"]]


COUNTED = {"table": "table", "tr": "tr", "li": "li", "img": "img", "h2": "h2", "h3": "h3",
           "blockquote": "blockquote", "ol": "ol"}  # fmt: skip


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_a_page_has_the_same_parts_here_and_on_github(page, pages):
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    flat = [part for token in tokens for part in (token, *(token.children or ()))]
    there = Counter(part.tag for part in flat if part.nesting >= 0 and part.tag in COUNTED)
    there["pre"] = sum(token.type == "fence" and token.info != "math" for token in tokens)
    here = Counter(e.tag for e in pages[f"{page.stem}.html"].article() if e.tag in {*there, "pre"})
    assert here == there


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
def test_it_is_read_and_searched_from_files_without_a_network(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    asked = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto((Path(site) / "index.html").as_uri())
        page.fill("input[name=query]", "probability-flow")
        found = page.locator(".md-search-result__link").first
        found.wait_for(state="attached", timeout=20_000)
        assert "tutorial" in found.get_attribute("href")
        page.set_viewport_size({"width": 390, "height": 800})
        for name in ("samplers", "service", "checkpoints"):  # of wide tables
            page.goto((Path(site) / f"{name}.html").as_uri())
            page.wait_for_selector(".md-typeset__table")
            wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, name
        browser.close()
    assert asked
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
