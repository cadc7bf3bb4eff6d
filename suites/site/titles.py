"""Links that are called after their file, as GitHub's readers like them, get the page's title."""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"\[(?:docs/)?([\w-]+\.md)\]\(((?:\.\./)*\1)((?:#[^)\s]*)?)\)")


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """MkDocs: a page's text, before it is made HTML."""
    here = posixpath.dirname(page.file.src_uri)

    def titled(link: re.Match[str]) -> str:
        file = files.get_file_from_path(posixpath.normpath(posixpath.join(here, link[2])))
        title = None if file is None or file.page is None else file.page.title
        return link[0] if title is None else f"[{title}]({link[2]}{link[3]})"

    return LINK.sub(titled, markdown)
