"""Formulas of pages, as MathML: browsers draw it without a script or a font of its own."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">(.*?)</div>', re.DOTALL)


def with_mathml(html: str) -> str:
    """A page's HTML with MathML where it had LaTeX.

    Raises:
        ValueError: LaTeX that can't be read.
    """
    html = INLINE.sub(lambda found: _mathml(found[1], "inline"), html)
    return BLOCK.sub(lambda found: f'<div class="formula">{_mathml(found[1], "block")}</div>', html)


def _mathml(latex: str, display: str) -> str:
    latex = unescape(latex).strip()
    try:
        drawn = str(convert(latex, display=display))
    except Exception as error:  # its errors have no common base
        raise ValueError(f"the formula {latex!r} can't be drawn: {error!r}") from error
    if "\\" in drawn:  # a command that it doesn't know is kept as text
        raise ValueError(f"the formula {latex!r} can't be drawn: it has an unknown command")
    return drawn


def on_page_content(html: str, **_: Any) -> str:
    """MkDocs: the page's HTML is made."""
    return with_mathml(html)
