"""What the site's build makes of formulas, of docstrings and of links that leave the docs."""

import re
import sys
import textwrap
import types

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("griffe")
pytest.importorskip("latex2mathml")

from suites.site import api, outside, titles
from suites.site.docstrings import as_markdown
from suites.site.formulas import with_mathml


def test_formulas_become_mathml_in_lines_and_in_blocks():
    html = with_mathml(r'<p>a <span class="arithmatex">\(x_t &lt; 1\)</span> b</p>')
    assert html.startswith('<p>a <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"')
    assert "<msub><mi>x</mi><mi>t</mi></msub><mo>&#x0003C;</mo><mn>1</mn>" in html
    block = with_mathml('<div class="arithmatex">x^2\n</div>')
    assert block.startswith('<div class="formula"><math')
    assert 'display="block"' in block
    assert "arithmatex" not in html + block


@pytest.mark.parametrize("latex", ["x_1_2", r"\whatever{x}"])
def test_a_formula_that_cannot_be_read_is_named(latex):
    with pytest.raises(ValueError, match=re.escape(repr(latex))):
        with_mathml(rf'<span class="arithmatex">\({latex}\)</span>')


def test_docstrings_formulas_tables_and_colons_become_markdown():
    text = """\
        Euler's, :math:`x_s`.

        .. math::
            a +
            b

        .. math:: c

        ====  =======
        kind  what is
        ====  =======
        one   a b
        ====  =======

        So::

            code()

        ::

            more()"""
    want = """\
        Euler's, $x_s$.

        ```math
        a +
        b
        ```

        ```math
        c
        ```

        | kind | what is |
        |---|---|
        | one | a b |

        So:

            code()



            more()"""
    got = as_markdown(textwrap.dedent(text))
    assert got.split() == textwrap.dedent(want).split()
    assert "So:\n\n    code()" in got
    assert "```math\na +\nb\n```\n" in got


def test_other_docstrings_stay_as_they_are():
    text = "Of ``a::b`` at 3:: x.\n\nArgs:\n    x: A == b == c.\n\n    more: text"
    assert as_markdown(text) == text


@pytest.mark.parametrize(
    ("link", "page", "target"),
    [
        ("../bench/results/cpu.jsonl", "cpu.md", "bench/results/cpu.jsonl"),
        ("../README.md", "index.md", "README.md"),
        ("../cpu.md", "api/revstep.md", None),
        ("../docs/cpu.md", "index.md", None),
    ],
)
def test_links_that_leave_the_docs_are_known(link, page, target):
    assert outside.target_of(link, page) == target


def test_a_link_out_leads_to_the_page_that_shows_the_file():
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="cpu.md"))
    text = "[rows](../bench/results/cpu.jsonl), [here](service.md), [part](../a.md#b)"
    assert outside.on_page_markdown(text, page=page) == (
        "[rows](repository/bench/results/cpu.jsonl.md), [here](service.md), "
        "[part](repository/a.md.md#b)"
    )


def test_a_file_is_shown_whole_whatever_fences_it_has(tmp_path):
    (tmp_path / "a.md").write_text("```sh\nls\n```\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    assert "````markdown\n```sh\nls\n```\n````\n" in outside.shown(tmp_path, "a.md")
    folder = outside.shown(tmp_path.parent, tmp_path.name)
    assert folder.count("\n## ") == 2
    with pytest.raises(FileNotFoundError):
        outside.shown(tmp_path, "c.py")


def test_a_modules_lists_become_tables_of_links(monkeypatch):
    module = types.ModuleType(
        "revstep.toy", 'Toys (docs/cpu.md).\n\nParts\n    ball, Car, ...   roll "on"'
    )
    module.ball = module.Car = module._hidden = None
    monkeypatch.setitem(sys.modules, "revstep.toy", module)
    text = api.text_of("revstep.toy")
    assert text.startswith("# revstep.toy\n\nToys ([cpu.md](../cpu.md)).\n\nParts\n\n| name | |\n")
    assert '| [`ball`][revstep.toy.ball], [`Car`][revstep.toy.Car], ... | roll "on" |' in text
    assert "::: revstep.toy.Car\n\n::: revstep.toy.ball\n" in text
    assert "hidden" not in text


def test_links_that_are_called_after_their_file_get_its_title():
    pages = {"cpu.md": "On a CPU", "index.md": None}
    files = types.SimpleNamespace(
        get_file_from_path=lambda path: (
            types.SimpleNamespace(page=types.SimpleNamespace(title=pages[path]))
            if path in pages
            else None
        )
    )
    text = "([cpu.md](cpu.md#a), [docs/cpu.md](cpu.md), [x](cpu.md), [a.md](a.md), "
    text += "[index.md](index.md))"
    for folder, up in (("", ""), ("api/", "../")):
        page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri=f"{folder}b.md"))
        got = titles.on_page_markdown(text.replace("](", f"]({up}"), page=page, files=files)
        want = f"([On a CPU]({up}cpu.md#a), [On a CPU]({up}cpu.md), [x]({up}cpu.md)"
        assert got == f"{want}, [a.md]({up}a.md), [index.md]({up}index.md))"
