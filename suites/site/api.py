"""The pages of the API reference: every public name, from its docstring."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = (
    "revstep", "revstep.samplers", "revstep.grids", "revstep.schedules", "revstep.errors",
    "revstep.export", "revstep.compat",
)  # fmt: skip
ENTRY = re.compile(r"    (\S.*?)  +(\S.*)")  # of a list of names: names, and what they are
NAME = re.compile(r"[A-Za-z_][\w.]*")
DOC = re.compile(r"\bdocs/([\w-]+\.md)")


def page_of(module: str) -> str:
    """The path of a module's page in docs/."""
    return f"api/{module}.md"


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module, less those that have a page of their own."""
    names = [name for name in dir(module) if not name.startswith("_")]
    return [name for name in names if f"{module.__name__}.{name}" not in PAGES]


def text_of(name: str) -> str:
    """The page of a module: what it says of itself, and its names."""
    module = importlib.import_module(name)
    said = "\n".join(_linked(inspect.cleandoc(module.__doc__ or ""), module))
    entries = "\n".join(f"::: {name}.{public}\n" for public in names_of(module))
    return f"# {name}\n\n{said}\n\n{entries}"


def _linked(said: str, module: ModuleType) -> Iterator[str]:
    """A module's docstring, its lists of names as tables of links."""
    known = {public: f"[`{public}`][{module.__name__}.{public}]" for public in names_of(module)}
    known |= {page: f"[`{page}`]({page}.md)" for page in PAGES if page != module.__name__}
    before = ""
    for line in said.splitlines():
        found = ENTRY.fullmatch(line)
        if found is None:
            before = line
            yield DOC.sub(r"[\1](../\1)", line)
            continue
        if not ENTRY.fullmatch(before):
            yield from ("", "| name | |", "|---|---|")
        linked = NAME.sub(lambda name: known.get(name[0], name[0]), found[1])
        yield f"| {linked} | {found[2]} |"
        before = line


def on_files(files: Files, config: Any) -> Files:
    """MkDocs: the pages are known; those of the reference are added."""
    for module in PAGES:
        files.append(File.generated(config, page_of(module), content=text_of(module)))
    return files
