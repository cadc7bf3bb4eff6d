"""The pages of the API reference: every public name, from its docstring."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = (
    "revstep", "revstep.samplers", "revstep.grids", "revstep.schedules", "revstep.errors",
    "revstep.export", "revstep.compat",
)  # fmt: skip


def page_of(module: str) -> str:
    """The path of a module's page in docs/."""
    return f"api/{module}.md"


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module that have a text of their own, namespaces apart."""
    names = [name for name in dir(module) if not name.startswith("_")]
    return [name for name in names if f"{module.__name__}.{name}" not in PAGES]


def text_of(name: str) -> str:
    """The page of a module: what it says of itself, and its names."""
    module = importlib.import_module(name)
    said = inspect.cleandoc(module.__doc__ or "")
    first, _, rest = said.partition("\n")
    table = f"\n```text\n{rest.strip()}\n```\n" if rest.strip() else ""
    entries = "\n".join(f"::: {name}.{public}\n" for public in names_of(module))
    return f"# {name}\n\n{first}\n{table}\n{entries}"


def on_files(files: Files, config: Any) -> Files:
    """MkDocs: the pages are known; those of the reference are added."""
    for module in PAGES:
        files.append(File.generated(config, page_of(module), content=text_of(module)))
    return files
