"""``revstep bench report``: a page of real rows, read as HTML and looked at by a real Chromium."""

import copy
import html
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from revstep.bench.compare import ratio_interval
from revstep.bench.load.load import Load, figures_of, run_load
from revstep.bench.load.verdict import Limit
from revstep.bench.rows import append_row, new_row, read_rows
from revstep.bench.stats.verdict import verdict

pytest.importorskip("matplotlib")

QUALITY = Path(__file__).parents[2] / "bench" / "results" / "quality_steps.jsonl"
HOSTILE = '<b onload="x()">$\\bad{</b>&amp;.revstep'
SECTIONS = [
    *("cells", "distribution", "batches", "split", "requests", "cold", "baselines", "limits"),
    *("service", "quality", "disturbances", "machine"),
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """What a page has: ids, tags, attributes that refer to something, and the text of cells."""

    VOID = ("meta", "link")

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.refers, self.cells, self.open = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        names = ("href", "src", "srcset", "xlink:href", "action", "data")
        self.refers += [given[name] for name in names if name in given]
        assert not [name for name in given if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


@pytest.fixture
def rows(bench_file):
    return read_rows(bench_file)


def beside(row, name, factor):
    """What ``--vs`` adds: a baseline that is slower by a factor."""
    ours = row["times_s"]["revstep"]
    ratio = ratio_interval([ours], [[factor * value for value in ours]])
    summary = {**row["summary"], "median_s": factor * row["summary"]["median_s"]}
    return {
        name: {
            "title": f"{name} & numpy", "summary": summary, "ratio": ratio,
            "verdict": verdict(ratio), "largest_difference": 2e-6,
            "differences": {"steps": [1e-6, 2e-6], "final": 1e-6},
        }
    }  # fmt: skip


def served(rate):
    """The row of a load, by a queue whose clock is no real one."""
    from fake_queue import FakeQueue

    queue, load, limit = FakeQueue(0.005), Load(rate=rate, seconds=10.0), Limit(0.2)
    replies = run_load(queue.send, lambda n, seed: [b""] * n, load, limit, queue.clock, queue.rest)
    service = {"bundle": HOSTILE, "model": {"name": "tabular"}}
    found = figures_of(replies, load, limit, 0.05)
    return new_row("serve", {"part": "load", "service": service, **found})


@pytest.fixture
def whole(rows, parts_row, tmp_path):
    """A file of everything that a report can hold, of a bundle with a hostile name."""
    path = tmp_path / "rows.jsonl"
    for row in copy.deepcopy(rows):
        row["bundle"]["name"] = HOSTILE
        row["parts"] = parts_row["parts"]
        row["vs"] = {**beside(row, "onnxruntime", 1.3), **beside(row, "openvino", 0.8)}
        append_row(path, row)
    for rate in (60.0, 150.0, 400.0):
        append_row(path, served(rate))
    return path


@pytest.fixture
def page(cli, whole, tmp_path):
    path = tmp_path / "report.html"
    result = cli("bench", "report", whole, "-o", path, "--quality", QUALITY)
    assert result.exit_code == 0, result.stderr
    return path


def test_a_page_has_every_section_and_needs_nothing_else(page):
    text = page.read_text()
    found = Page(text)
    assert [name for name in found.ids if name in SECTIONS] == SECTIONS
    assert found.tags.count("svg") >= 9
    assert all(ref.startswith(("#", "data:,")) for ref in found.refers)
    assert not {"script", "img", "iframe", "object", "image"} & set(found.tags)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    inside = [
        ref for ref in [*found.refers, *re.findall(r"url\((#[^)]*)\)", text)] if ref[0] == "#"
    ]
    assert {ref[1:] for ref in inside} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_names_are_escaped(page):
    found = Page(page.read_text())
    assert "b" not in found.tags
    assert f"<h1>Latency of {html.escape(HOSTILE)}" in page.read_text()


def test_colours_of_plots_are_the_pages_own(page):
    text = page.read_text()
    assert "#0101" not in text
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    light, _, dark = text.partition("prefers-color-scheme: dark")
    for name in used:
        assert f"{name}: #" in light
        assert f"{name}: #" in dark.partition("</style>")[0]


def test_cells_are_the_rows_figures(page, rows):
    found = Page(page.read_text())
    first = rows[0]["summary"]
    assert found.cells[:2] == ["batch 1", "16"]
    middle = first["percentiles"]["p50"]["value"] * 1e3
    assert found.cells[2].startswith(f"{middle:.4g}" if middle >= 1 else f"{middle:.3f}")
    assert found.cells[3:6] == ["–"] * 3  # 16 runs support no more
    assert "faster" in found.cells
    assert "slower" in found.cells
    assert "holds" in found.cells
    assert "missed" in found.cells


def test_a_request_s_parts_are_in_the_page_one_by_one(page, parts_row):
    found, parts = Page(page.read_text()).cells, parts_row["parts"]
    begin = found.index("encoder text")
    assert found[begin + 1] == "2 + 1"
    whole, encoder = (parts["times"][name]["median_s"] for name in ("request", "encoder.text"))
    assert found[begin + 6] == f"{encoder / whole:.1%}"
    for name in ("loop", "decoder", "the rest", "whole request", "picture encoder (start=)"):
        assert name in found[begin:]


def test_rows_of_earlier_versions_have_no_parts_and_are_read(cli, parts_row, tmp_path):
    source, path = tmp_path / "rows.jsonl", tmp_path / "report.html"
    append_row(source, {k: v for k, v in parts_row.items() if k != "parts"})
    result = cli("bench", "report", source, "-o", path)
    assert result.exit_code == 0, result.stderr
    assert "requests" not in Page(path.read_text()).ids


def test_what_was_not_measured_says_how_to(cli, rows, tmp_path):
    source, path = tmp_path / "rows.jsonl", tmp_path / "report.html"
    row = {k: v for k, v in rows[0].items() if k not in ("cold", "deadline", "tick")}
    append_row(source, row)
    result = cli("bench", "report", source, "-o", path)
    assert result.exit_code == 0, result.stderr
    ids = Page(path.read_text()).ids
    there = ["cells", "distribution", "split", "disturbances", "machine", "missing"]
    assert [name for name in ids if name in (*SECTIONS, "missing")] == there
    assert "revstep bench run BUNDLE --batch 1,4,16" in path.read_text()
    assert "revstep bench serve BUNDLE" in path.read_text()


def test_a_load_that_ended_early_has_no_slices(cli, tmp_path):
    source, path = tmp_path / "rows.jsonl", tmp_path / "report.html"
    append_row(source, served(400.0) | {"slices": []})
    result = cli("bench", "report", source, "-o", path)
    assert result.exit_code == 0, result.stderr
    text = path.read_text()
    assert "A service under load" in text
    assert "in slices" not in text


def test_plots_are_png_files_too(cli, whole, tmp_path, pixels_of):
    folder = tmp_path / "plots"
    words = ("-o", tmp_path / "r.html", "--png", folder, "--quality", QUALITY)
    result = cli("bench", "report", whole, *words)
    assert result.exit_code == 0, result.stderr
    files = sorted(path.name for path in folder.iterdir())
    assert {"distribution.png", "batches.png", "split.png", "quality.png"} <= set(files)
    assert [line for line in result.stdout.splitlines() if line.endswith(".png")]
    for name in files:
        pixels = pixels_of(folder / name)
        assert pixels.min() < 100
        assert pixels.max() == 255 or pixels.ndim == 2


def test_a_report_without_rows_is_refused_and_nothing_is_written(cli, tmp_path):
    empty, other = tmp_path / "empty.jsonl", tmp_path / "other.jsonl"
    empty.write_text("")
    append_row(other, new_row("cpu", {"part": "runs"}))
    for path, said in ((empty, "has no rows; `revstep bench run"), (other, "these are of: cpu")):
        result = cli("bench", "report", path, "-o", tmp_path / "report.html")
        assert result.exit_code == 2
        assert said in result.stderr
    assert not (tmp_path / "report.html").exists()


def test_rows_of_two_machines_are_said_to_be(cli, rows, tmp_path):
    source, path = tmp_path / "rows.jsonl", tmp_path / "report.html"
    for number, row in enumerate(copy.deepcopy(rows)):
        row["machine"]["cores"] = 1 + number
        append_row(source, row)
    assert cli("bench", "report", source, "-o", path).exit_code == 0
    assert "2 machines or builds" in path.read_text()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=60e3
        )
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it(scheme, width, browser, page):
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, offline=True
    )
    view, asked, said = context.new_page(), [], []
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: said.append(message.text))
    view.goto(page.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert said == []
    assert view.evaluate("document.documentElement.scrollWidth") <= width  # tables scroll alone
    ground, ink = view.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (brightness(ground) > brightness(ink)) == (scheme == "light")
    sizes = view.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 9.0  # CSS pixels: readable
    fills = view.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill)"
    )
    assert all((brightness(fill) < brightness(ground)) == (scheme == "light") for fill in fills)
    context.close()


def brightness(color):
    return sum(map(float, re.findall(r"[\d.]+", color)[:3]))


@pytest.mark.slow
def test_the_report_of_the_bundled_denoiser(cli, demo_bundle, tmp_path):
    """As a user makes it, from its folder to the page."""
    rows, path = tmp_path / "rows.jsonl", tmp_path / "report.html"
    words = ("--batch", "1,4", "--steps", "2", "--seconds", "2", "--cold", "1", "-o", rows)
    measured = cli("bench", demo_bundle, *words)
    assert measured.exit_code == 0, measured.stderr
    result = cli("bench", "report", rows, "-o", path, "--quality", QUALITY)
    assert result.exit_code == 0, result.stderr
    found = Page(path.read_text())
    assert {"cells", "distribution", "batches", "split", "cold", "quality"} <= set(found.ids)
    assert len(read_rows(rows)) == 2
