"""The documentation site: built once for the tests that ask, and its pages as they are read."""

import dataclasses
import os
import subprocess
import sys
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

ROOT = Path(__file__).parents[2]
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


def build(folder):
    """Builds the site into ``folder`` as ``make docs`` does: a warning is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip(), done.stderr
    return folder


@dataclasses.dataclass
class Element:
    """A tag of a page; ``inside`` are the tags that it stands in, the outermost first."""

    tag: str
    attributes: dict
    inside: tuple

    def __getitem__(self, name):
        return self.attributes.get(name) or ""


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []

    def handle_starttag(self, tag, attrs):
        inside = tuple(element for element in self._open)
        element = Element(tag, dict(attrs), inside)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag):
        if any(element.tag == tag for element in self._open):
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data):
        self.texts.append(([element.tag for element in self._open], data))


@dataclasses.dataclass
class Page:
    """A page of a built site."""

    site: Path
    path: Path

    @property
    def name(self):
        """Its path in the site."""
        return self.path.relative_to(self.site).as_posix()

    @cached_property
    def read(self):
        """Its elements and texts."""
        reader = _Reader()
        reader.feed(self.path.read_text(encoding="utf-8"))
        return reader

    @property
    def elements(self):
        """Its tags, in order."""
        return self.read.elements

    @cached_property
    def ids(self):
        """What links may point to."""
        return {element["id"] or element["name"] for element in self.elements} - {""}

    def article(self):
        """The tags of what the page says, without the theme's."""
        return [
            element
            for element in self.elements
            if any("md-content__inner" in outer["class"] for outer in element.inside)
        ]

    def target(self, link):
        """(file, fragment) that a relative link leads to."""
        path, fragment = urldefrag(link)
        here = f"/{self.name}"
        return self.site / unquote(urljoin(here, path)).lstrip("/"), unquote(fragment)


def pages_of(site):
    """All pages, by their path in the site."""
    found = (Page(site, path) for path in sorted(site.rglob("*.html")))
    return {page.name: page for page in found}
