"""Links that leave docs/ for the repository's own files: each gets a page that shows the file."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)")
FOLDER = "repository"  # of the site
LANGUAGES = {
    ".py": "python", ".md": "markdown", ".toml": "toml", ".Dockerfile": "dockerfile",
    ".json": "json", ".jsonl": "json",
}  # fmt: skip
HEAD = "---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n"


def target_of(link: str, page: str) -> str | None:
    """The file that a link of a page names, from the repository's top; None: it is in docs/.

    Args:
        link: As the page has it, such as ``../bench/results/cpu.jsonl``.
        page: The page's path in docs/.
    """
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path == "docs" or path.startswith("docs/") else path


def page_of(target: str) -> str:
    """The path of the page that shows a file."""
    return f"{FOLDER}/{target}.md"


def shown(root: Path, target: str) -> str:
    """The page of a file, or of a folder: what is in it.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = root / target
    title = f"{HEAD}# {target}\n\n"
    if not path.is_dir():
        return title + _code(path)
    files = sorted(p for p in path.iterdir() if p.suffix in LANGUAGES)
    return title + "\n".join(f"## {file.name}\n\n{_code(file)}" for file in files)


def _code(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    fence = "`" * (1 + max((len(run) for run in re.findall("`{2,}", text)), default=2))
    return f"{fence}{LANGUAGES.get(file.suffix, 'text')}\n{text}{fence}\n"


def on_files(files: Files, config: Any) -> Files:
    """MkDocs: the pages are known; those of linked files are added."""
    root = Path(config["config_file_path"]).parent
    found = {
        target_of(link, file.src_uri)
        for file in files.documentation_pages()
        for link in LINK.findall(file.content_string)
    }
    for target in sorted(filter(None, found)):
        page = File.generated(config, page_of(target), content=shown(root, target))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs: a page's text, before it is made HTML."""
    here = page.file.src_uri
    if here.startswith(f"{FOLDER}/"):
        return markdown

    def moved(link: re.Match[str]) -> str:
        target = target_of(link[1], here)
        if target is None:
            return link[1]
        return posixpath.relpath(page_of(target), posixpath.dirname(here) or ".")

    return LINK.sub(moved, markdown)
